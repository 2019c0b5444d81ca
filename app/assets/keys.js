// Keys of the page, unless the user writes, opens a list or holds a modifier. A slider keeps its
// arrows (that of the dates steps through the dates), a button keeps space and Enter.
const names = {
  ArrowLeft: "previous", ArrowRight: "next", ArrowUp: "layer before", ArrowDown: "layer after",
  "[": "layer before", "]": "layer after", " ": "play", c: "compare", C: "compare", "?": "help",
}
const press = (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) { return }
  const name = names[event.key]
  const target = event.composedPath()[0]
  const inside = (what) => target.closest?.(what) != null
  const arrow = event.key.startsWith("Arrow")
  if (name == null || inside("textarea, select, [contenteditable], [role=listbox], [role=menu], [role=combobox]")) { return }
  if (inside("input") && !["range", "checkbox", "radio", "button"].includes(target.type)) { return }
  if (arrow && inside("[type=range], [role=slider], [role=tab], [role=radiogroup]")) { return }
  if (event.key == " " && inside("button, a, summary, input, [role=button], [role=switch]")) { return }
  event.preventDefault()
  // a point that is never drawn, and that differs from the last one
  keys.data = { x: [0], y: [Date.now()], key: [name] }
}
document.addEventListener("keydown", press)
