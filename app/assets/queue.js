// The jobs, one row each. Rows are changed in place, so that the focus stays where it is.
const WORDS = { log: "Log", cancel: "Cancel", retry: "Retry" }

export function render({ model }) {
  const root = document.createElement("div")
  root.className = "queue"
  const head = document.createElement("p")
  head.setAttribute("role", "status")
  const list = document.createElement("ul")
  list.setAttribute("aria-label", "Jobs")
  root.append(head, list)
  const rows = new Map()

  const made = (id) => {
    const row = document.createElement("li")
    row.innerHTML = `<b></b><span class="doing"></span>
      <div class="bar"><i></i></div><span class="state"></span><span class="actions"></span>`
    const buttons = {}
    for (const action of Object.keys(WORDS)) {
      const button = document.createElement("button")
      button.type = "button"
      button.textContent = WORDS[action]
      button.addEventListener("click", () => model.send_msg({ id, action }))
      row.querySelector(".actions").append(button)
      buttons[action] = button
    }
    const log = document.createElement("pre")
    log.tabIndex = 0
    log.setAttribute("role", "region")
    log.hidden = true
    row.append(log)
    return { row, buttons, log }
  }

  const put = (element, text) => {
    if (element.textContent !== text) element.textContent = text
  }

  const draw = () => {
    put(head, model.sentence)
    const wanted = new Set(model.jobs.map((job) => job.id))
    for (const [id, { row }] of rows) {
      if (!wanted.has(id)) {
        row.remove()
        rows.delete(id)
      }
    }
    model.jobs.forEach((job, place) => {
      if (!rows.has(job.id)) rows.set(job.id, made(job.id))
      const { row, buttons, log } = rows.get(job.id)
      if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null)
      put(row.querySelector("b"), job.name)
      put(row.querySelector(".doing"), job.doing)
      put(row.querySelector(".state"), job.state)
      row.classList.toggle("failed", job.failed)
      row.querySelector(".bar").hidden = !job.open
      row.querySelector("i").style.width = `${job.percent}%`
      for (const [action, button] of Object.entries(buttons)) {
        button.hidden = !job.actions.includes(action)
        button.setAttribute("aria-label", `${WORDS[action]}: ${job.name}`)
      }
      const open = model.logged === job.id
      buttons.log.setAttribute("aria-expanded", String(open))
      log.hidden = !open
      log.setAttribute("aria-label", `Log of ${job.name}`)
      if (open) put(log, model.log || "Loading the log.")
    })
  }
  model.on(["jobs", "log", "logged", "sentence"], draw)
  draw()
  return root
}
