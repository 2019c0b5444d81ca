// Light or dark: what was chosen here before, else what the system prefers. The components of the
// library follow this attribute of the document, and the colours in theme.css do.
{
  const root = document.documentElement
  const system = matchMedia("(prefers-color-scheme: dark)")
  let chosen = null
  try { chosen = localStorage.getItem("theme") } catch { /* a browser that keeps nothing */ }
  const paint = () => {
    root.dataset.theme = ["dark", "light"].includes(chosen) ? chosen : system.matches ? "dark" : "light"
  }
  paint()
  system.addEventListener("change", paint)
  document.addEventListener("click", (event) => {
    if (!event.composedPath().some((node) => node.ariaLabel === "Toggle theme")) { return }
    chosen = root.dataset.theme === "dark" ? "light" : "dark"
    try { localStorage.setItem("theme", chosen) } catch { /* then for this page alone */ }
    paint()
  })
}
