// Hovering tells what a mark is; clicking chooses a trial in every chart and table.
const trials = JSON.parse(document.getElementById("trials").textContent);
const tip = document.getElementById("tip");
const chosen = new Set();

function told(mark) {
  const name = mark.dataset.t;
  return [name ? trials[name] : "", mark.dataset.tip].filter(Boolean).join("\n");
}

function follow(event) {
  const mark = event.target.closest("svg [data-t], svg [data-tip]");
  const text = mark ? told(mark) : "";
  tip.style.display = text ? "block" : "none";
  if (!text) return;
  tip.textContent = text;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = Math.min(event.clientX + 14, innerWidth - width - 8);
  const below = event.clientY + 16;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below + height > innerHeight ? event.clientY - height - 10 : below}px`;
}

function show() {
  document.body.classList.toggle("some", chosen.size > 0);
  for (const mark of document.querySelectorAll("[data-t]")) {
    mark.classList.toggle("on", chosen.has(mark.dataset.t));
  }
}

document.addEventListener("pointermove", follow);
document.addEventListener("click", (event) => {
  const mark = event.target.closest("[data-t]");
  if (mark && !getSelection().toString()) {
    const name = mark.dataset.t;
    if (!chosen.delete(name)) chosen.add(name);
    show();
  } else if (!mark && event.target.closest("svg")) {
    chosen.clear();
    show();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { chosen.clear(); show(); }
});
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
