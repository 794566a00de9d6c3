// The items: filters, search, pages. Only one page of them is ever in the document. All text from the data goes in through textContent.
(function () {
  "use strict";
  var LONG = 400, PRINTED = 200;
  var holder = document.getElementById("items-data");
  if (!holder) { return; }
  var data = JSON.parse(holder.textContent);
  var $ = function (id) { return document.getElementById(id); };
  if (!data.items.length) { return; }

  function element(tag, className, text) {
    var made = document.createElement(tag);
    if (className) { made.className = className; }
    if (text !== undefined && text !== null) { made.textContent = text; }
    return made;
  }
  var CHANGES = {
    flipped: ["Changed", function (o) { return o[1] !== o[2]; }],
    forgotten: ["Forgotten", function (o) { return o[1] && !o[2]; }],
    learned: ["Learned", function (o) { return !o[1] && o[2]; }],
    wrong: ["Still wrong", function (o) { return !o[1] && !o[2]; }],
    right: ["Still right", function (o) { return o[1] && o[2]; }],
    differ: ["Runs disagree", null],
    all: ["All", function () { return true; }]
  };
  if (data.single) { CHANGES = { wrong: ["Wrong", CHANGES.wrong[1]], right: ["Right", CHANGES.right[1]], all: CHANGES.all }; }
  var MARK = data.single ? { right: "✓ right", wrong: "✗ wrong" } : { learned: "+ learned", forgotten: "− forgotten", right: "✓ still right", wrong: "✗ still wrong" };
  var items = data.items.map(function (row) {
    var texts = [row[1], data.subjects[row[2]], row[4], row[5]];
    row[6].forEach(function (outcome) { texts.push(outcome[3], outcome[4]); });
    return { split: row[0], id: row[1], subject: row[2], lang: row[3], prompt: row[4], answer: row[5], outcomes: row[6],
      text: texts.filter(Boolean).join("\n").toLowerCase() };
  });
  var state = { run: "all", split: "all", subject: "all", lang: "all", change: "flipped", words: [], page: 0, size: 10 };

  function chosen(item) {
    return state.run === "all" ? item.outcomes : item.outcomes.filter(function (o) { return o[0] === Number(state.run); });
  }
  function matches(item, change) {
    if (change === "differ") {
      return item.outcomes.some(function (o) { return o[2] !== item.outcomes[0][2]; }) && chosen(item).length > 0;
    }
    return chosen(item).some(CHANGES[change][1]);
  }
  function inScope(item) {
    return ["split", "subject", "lang"].every(function (key) { return state[key] === "all" || item[key] === Number(state[key]); }) &&
      state.words.every(function (word) { return item.text.indexOf(word) >= 0; });
  }
  function kind(outcome) {
    return outcome[1] ? (outcome[2] ? "right" : "forgotten") : (outcome[2] ? "learned" : "wrong");
  }
  function longText(made, text) {
    made.dir = "auto";
    if (text.length <= LONG) { made.textContent = text; return made; }
    var more = element("button", "link", "show all " + text.length.toLocaleString("en") + " characters");
    more.type = "button";
    more.addEventListener("click", function () { made.textContent = text; });
    made.append(document.createTextNode(text.slice(0, LONG) + " … "), more);
    return made;
  }
  function said(label, text) {
    var made = element("td", "said"), inner = element("div", "text");
    made.dataset.label = label;
    if (text === null || text === "") { inner.append(element("span", "none", text === null ? "not recorded" : "(nothing)")); } else { longText(inner, text); }
    made.append(inner);
    return made;
  }
  function question(item, rows) {
    var made = element("th", "question"), answer = element("div", "answer"), tags = element("div", "tags");
    made.scope = "rowgroup";
    made.rowSpan = rows;
    answer.append(element("span", "when", "Accepted"), longText(element("strong"), item.answer));
    tags.append(element("span", "tag", data.splits[item.split]));
    if (item.subject >= 0) { tags.append(element("span", "tag soft", data.subjects[item.subject])); }
    if (item.lang >= 0) { tags.append(element("span", "tag soft", data.langs[item.lang])); }
    tags.append(element("span", "id", item.id));
    made.append(longText(element("div", "prompt"), item.prompt), answer, tags);
    return made;
  }
  function body(item) {
    var made = element("tbody", "item"), outcomes = chosen(item);
    made.dataset.id = item.id;
    outcomes.forEach(function (outcome, index) {
      var row = element("tr"), change = element("td", "change"), name = kind(outcome);
      if (index === 0) { row.append(question(item, outcomes.length)); }
      if (data.runs.length > 1) {
        var run = element("th", "run"), swatch = element("i", "swatch run-" + (data.styles[outcome[0]] % 8));
        run.scope = "row";
        swatch.setAttribute("aria-hidden", "true");
        run.append(swatch, element("bdi", "", data.runs[outcome[0]]));
        row.append(run);
      }
      change.append(element("span", "badge " + name, MARK[name]));
      row.append(change);
      if (!data.single) { row.append(said("Before", outcome[3])); }
      row.append(said(data.single ? "Said" : "After", outcome[4]));
      made.append(row);
    });
    return made;
  }
  function table(shown) {
    var made = element("table", "asked"), head = element("thead"), row = element("tr");
    made.append(element("caption", "unseen", "Items, with what the model said before and after training"));
    [["question", "Question"]].concat(data.runs.length > 1 ? [["run", "Run"]] : [], data.single ? [["change", ""], ["", "Said"]] : [["change", "Change"], ["", "Before"], ["", "After"]])
      .forEach(function (pair) {
        var cell = element("th", pair[0], pair[1] || "Right or wrong");
        cell.scope = "col";
        row.append(cell);
      });
    head.append(row);
    made.append(head);
    shown.forEach(function (item) { made.append(body(item)); });
    return made;
  }
  function update(everything) {
    var scope = items.filter(inScope);
    Object.keys(CHANGES).forEach(function (change) {
      var button = document.querySelector('[data-change="' + change + '"]');
      if (button) {
        var count = scope.filter(function (item) { return matches(item, change); }).length;
        button.querySelector("b").textContent = count.toLocaleString("en");
        button.setAttribute("aria-pressed", String(change === state.change));
      }
    });
    var shown = scope.filter(function (item) { return matches(item, state.change); });
    var pages = Math.max(1, Math.ceil(shown.length / state.size));
    state.page = Math.min(state.page, pages - 1);
    var from = everything ? 0 : state.page * state.size, to = everything ? PRINTED : from + state.size;
    $("item-table").replaceChildren(table(shown.slice(from, to)));
    $("item-table").hidden = shown.length === 0;
    $("item-status").textContent = shown.length === 0 ? "No item matches." :
      "Items " + (from + 1) + " to " + Math.min(to, shown.length) + " of " + shown.length.toLocaleString("en");
    $("item-prev").disabled = state.page === 0;
    $("item-next").disabled = state.page >= pages - 1;
  }
  function on(id, event, change) {
    $(id).addEventListener(event, function () { change(this); state.page = 0; update(); });
  }
  function choices(id, names, key) {
    var select = $(id);
    names.forEach(function (name, index) {
      var made = element("option", "", name);
      made.value = String(index);
      select.append(made);
    });
    select.parentElement.hidden = names.length < 2;
    on(id, "change", function (box) { state[key] = box.value; });
  }
  on("item-search", "input", function (box) { state.words = box.value.toLowerCase().split(/\s+/).filter(Boolean); });
  on("item-size", "change", function (box) { state.size = Number(box.value); });
  choices("item-run", data.runs, "run");
  choices("item-split", data.splits, "split");
  choices("item-subject", data.subjects, "subject");
  choices("item-lang", data.langs, "lang");
  Object.keys(CHANGES).forEach(function (change) {
    if (change === "differ" && data.runs.length < 2) { return; }
    var button = element("button", "", CHANGES[change][0] + " ");
    button.type = "button";
    button.dataset.change = change;
    button.append(element("b"));
    button.addEventListener("click", function () { state.change = change; state.page = 0; update(); });
    $("item-changes").append(button);
  });
  function turn(by) {
    state.page += by;
    update();
    $("items").scrollIntoView();
  }
  $("item-prev").addEventListener("click", function () { turn(-1); });
  $("item-next").addEventListener("click", function () { turn(1); });
  window.addEventListener("beforeprint", function () { update(true); });
  window.addEventListener("afterprint", function () { update(); });
  $("item-controls").hidden = false;
  $("item-pager").hidden = false;
  state.change = ["forgotten", "flipped", "wrong", "all"].filter(function (change) {
    return CHANGES[change] && items.some(function (item) { return matches(item, change); });
  })[0];
  update();
})();
