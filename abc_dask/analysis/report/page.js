"use strict";

// Sort a table by the column whose button was pressed; cells without a value stay last.
function sort(button) {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const down = head.getAttribute("aria-sort") === "descending"
    || (!head.hasAttribute("aria-sort") && !head.classList.contains("number"));
  const column = head.cellIndex;
  const key = (row) => {
    const cell = row.cells[column], rank = cell.dataset.rank;
    if (rank === undefined) return cell.textContent;
    return rank === "" ? null : Number(rank);
  };
  const rows = Array.from(body.rows, (row) => ({ row, key: key(row), last: row.classList.contains("missing") }));
  const compare = (a, b) => typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  rows.sort((a, b) => {
    if (a.last !== b.last) return a.last ? 1 : -1;
    if ((a.key === null) !== (b.key === null)) return a.key === null ? 1 : -1;
    return down ? compare(a.key, b.key) : compare(b.key, a.key);
  });
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "ascending" : "descending");
  body.append(...rows.map((one) => one.row));
}

const large = document.getElementById("large"), enlarged = document.getElementById("enlarged");

// Show a copy of a picture, with what explains it, over the page.
function enlarge(figure) {
  const copy = figure.cloneNode(true), button = copy.querySelector(".enlarge");
  button.replaceWith(...button.childNodes);
  enlarged.replaceChildren(copy);
  large.showModal();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.target === large || button?.id === "close") large.close();
  else if (button?.classList.contains("enlarge")) enlarge(button.closest("figure"));
  else if (button?.closest("table.sortable thead")) sort(button);
});
