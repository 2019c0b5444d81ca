// Arrow keys step through the dates, unless the user writes or moves a slider.
const step = (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) { return }
  const target = event.composedPath()[0]
  if (target.closest?.("input, textarea, select, [contenteditable], [role=slider], [role=listbox], [role=tab], [role=radiogroup]")) { return }
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
  if (by != null) {
    // a point that is never drawn, and that differs from the last one
    keys.data = { x: [by], y: [Date.now()] }
  }
}
document.addEventListener("keydown", step)
