#!/bin/sh
# Five methods through the stream `facts` on SmolLM2-135M, two seeds each; the results go to docs/results/facts.
#   sh benchmarks/facts.sh && python benchmarks/facts_table.py
# AdamW, the next task at 90% learned. LoRA learns at its own, tenfold rate. Finished seeds are not run again.
set -e
run() {
    name=$1
    shift
    forgetless stream --stream facts --stream-arg items=8 --setting task --seeds 2 --resume --out "docs/results/facts/$name" "$@"
}
run none --method none --lr 1e-4
run replay --method replay --lr 1e-4
run ewc --method ewc --method-arg ewc.strength=1000 --lr 1e-4
run lora --method lora --lr 1e-3
run cpl --method cpl --method-arg cpl.refresh=4 --method-arg cpl.retain_batches=1 --lr 1e-4
run none-higher-rate --method none --lr 3e-4
forgetless report docs/results/facts/none docs/results/facts/replay docs/results/facts/ewc docs/results/facts/lora \
    docs/results/facts/cpl docs/results/facts/none-higher-rate --out docs/results/facts/report.html
