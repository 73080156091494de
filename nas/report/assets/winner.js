// The winner's card: its score on the test part, what it costs, and the command that takes it away.
// All texts are those of `panels/winner.py`. Does not know how a winner is chosen.
"use strict";

function winnerCard(body, card, actions) {
  if (!card) {
    body.replaceChildren(make("p", { class: "hint" },
      "The search has not ended; its winner will be trained, scored on the test part and shown here."));
    return;
  }
  body.replaceChildren(make("div", { class: "card" },
    make("div", { class: "score" }, make("strong", {}, card.score), make("span", {}, card.words)),
    make("dl", { class: "metrics" }, card.facts.map(([label, value, note]) => make("div", {},
      make("dt", {}, label), make("dd", {}, value), note ? make("dd", { class: "note" }, note) : null))),
    card.searched ? make("p", { class: "hint" }, card.searched) : null,
    command(card.command),
    make("div", { class: "steps" },
      make("button", { type: "button", onclick: () => actions.show(card.id) }, `Show ${card.id} below`))));
}

// The table of several runs, the first of which the page is about.
function runsTable(section, runs) {
  section.hidden = runs.length < 2;
  if (section.hidden) return;
  byId("runs-table").replaceChildren(table(
    ["run", "space", "data", "strategy", "seed", "budget", "evaluations", "winner", "its score"],
    runs.map((r) => [r.name, r.space, r.data || "none", r.strategy, String(r.seed), r.budget,
      r.evaluations.toLocaleString("en"), r.winner, r.score])));
}
