// Progress bars of the library have no name of their own: a screen reader would read a number alone.
const named = (root) => {
  for (const node of root.querySelectorAll("*")) {
    if (node.getAttribute("role") == "progressbar" && !node.hasAttribute("aria-label")) {
      node.setAttribute("aria-label", "Progress")
    }
    if (node.shadowRoot) { named(node.shadowRoot) }
  }
}
named(document)
let soon = 0
document.addEventListener("click", () => {
  clearTimeout(soon)
  soon = setTimeout(() => named(document), 1000)  // what the click has brought
})
