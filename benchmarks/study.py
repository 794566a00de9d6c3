"""The study of what forgets less: its question files, and its page from committed raw results.

    python benchmarks/study.py data --out FOLDER --settings airports-24 --seeds 0 1
    forgetless compare --config FOLDER/screen.yaml --out FOLDER/screen
    python benchmarks/study.py keep FOLDER/screen screen          # into docs/results/study/screen.json
    python benchmarks/study.py page                               # docs/results/study.md and its figures

``data`` also copies the plans of ``benchmarks/study/`` into FOLDER, beside the questions that they name.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from forgetless.data.model import EMBEDDED
from forgetless.errors import InputError

PLANS = Path(__file__).resolve().parent / "study"
RESULTS = Path(__file__).resolve().parents[1] / "docs/results"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    data = verbs.add_parser("data", help="write the question files")
    data.add_argument("--out", type=Path, required=True)
    data.add_argument("--settings", nargs="+", default=["airports-24"], help="SUBJECT-COUNT each")
    data.add_argument("--seeds", type=int, nargs="+", default=[0])
    data.add_argument("--most", type=int, help="items in each file to keep; left out: all that the model knows")
    data.add_argument("--model", default=EMBEDDED)
    keep = verbs.add_parser("keep", help="reduce the folder of a comparison, or those of several streams, to a raw result")
    keep.add_argument("folder", type=Path)
    keep.add_argument("name", help="of the raw file, without suffix")
    keep.add_argument("--results", type=Path, default=RESULTS)
    keep.add_argument("--renamed", nargs="+", default=[], metavar="RUN=SHOWN", help="labels under which a comparison's methods are shown")
    page = verbs.add_parser("page", help="write the page from the raw results")
    page.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        if options.verb == "data":
            import study_data

            for line in study_data.write(options.out, options.settings, options.seeds, model=options.model, most=options.most):
                print(line)
            for plan in sorted(PLANS.iterdir()):
                shutil.copy(plan, options.out / plan.name)
        elif options.verb == "keep":
            import study_raw

            labels = dict(pair.split("=", 1) for pair in options.renamed)
            print(study_raw.keep(options.folder, options.name, options.results / "study", labels))
        else:
            import study_page

            print(study_page.write(options.results))
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
