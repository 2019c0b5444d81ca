// A searchable list in groups: the combobox of the WAI-ARIA practices. Words find an option by its
// name, its long name, its bands and its group, in any order; arrows and Enter choose. A field for
// one shows its name, a field for several shows a chip of each.
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag)
  for (const [key, value] of Object.entries(attributes)) { node.setAttribute(key, value) }
  node.append(...children)
  return node
}

export function render({ model }) {
  const many = model.most > 1
  const input = make("input", {
    id: "search", type: "text", role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false",
    "aria-controls": "list", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
    placeholder: model.placeholder,
  })
  const label = make("label", { for: "search" }, model.label)
  const chips = make("span", { class: "chips" })
  const arrow = make("span", { class: "arrow", "aria-hidden": "true" })
  const control = make("div", { class: "control" }, chips, input, arrow)
  const list = make("div", { id: "list", role: "listbox", popover: "manual", "aria-label": model.label })
  const status = make("span", { class: "status", role: "status" })
  const box = make("div", { class: many ? "field many" : "field" }, label, control, list, status)
  let options = []  // what is in the list: { node, value, name }
  let active = -1

  const values = () => many ? model.values : [model.value]
  const name = (value) => model.groups.flatMap(([, found]) => found).find(([one]) => one === value)?.[1] ?? value
  const opened = () => input.getAttribute("aria-expanded") === "true"

  const mark = (index) => {
    options[active]?.node.classList.remove("active")
    active = index
    const node = options[active]?.node
    node?.classList.add("active")
    node?.scrollIntoView({ block: "nearest" })
    node ? input.setAttribute("aria-activedescendant", node.id) : input.removeAttribute("aria-activedescendant")
  }

  const row = ([value, title, text, side]) => {
    const node = make("div", {
      role: "option", id: `option-${options.length}`, "aria-selected": String(values().includes(value)),
    }, make("b", {}, title), make("small", {}, text), make("i", {}, side))
    options.push({ node, value, name: title.toLowerCase() })
    return node
  }

  const fill = (query) => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean)
    const holds = (text) => words.every((word) => text.toLowerCase().includes(word))
    const within = ([group]) => words.some((word) => group.toLowerCase().includes(word))
    const groups = [...model.groups.filter(within), ...model.groups.filter((one) => !within(one))]
    options = []
    list.replaceChildren()
    groups.forEach(([group, members], number) => {
      const rows = members.filter(([, ...texts]) => holds([...texts, group].join(" "))).map(row)
      if (rows.length > 0) {
        const head = make("div", { class: "head", id: `group-${number}` }, group)
        list.append(make("div", { role: "group", "aria-labelledby": head.id }, head, ...rows))
      }
    })
    if (options.length === 0) { list.append(make("div", { class: "none" }, "Nothing found")) }
    status.textContent = query ? `${options.length} found` : ""
    const whole = words.join(" ")
    const best = [
      query ? -1 : options.findIndex(({ value }) => values().includes(value)),
      options.findIndex((one) => one.name === whole), options.findIndex((one) => one.name.startsWith(whole)),
    ].find((index) => index >= 0)
    mark(best ?? (options.length > 0 ? 0 : -1))
  }

  const place = () => {
    const { left, top, bottom, width } = control.getBoundingClientRect()
    const room = document.documentElement.clientWidth - 16
    const wide = Math.min(Math.max(width, 400), room)
    const below = window.innerHeight - bottom - 12
    const up = below < 220 && top > below
    Object.assign(list.style, {
      width: `${wide}px`, left: `${Math.max(8, Math.min(left, room + 8 - wide))}px`,
      maxHeight: `${Math.min(520, up ? top - 12 : below)}px`,
      top: up ? "auto" : `${bottom + 4}px`, bottom: up ? `${window.innerHeight - top + 4}px` : "auto",
    })
  }

  const open = (query) => {
    if (!opened()) {
      input.setAttribute("aria-expanded", "true")
      list.showPopover()
    }
    place()
    fill(query)
  }
  const show = () => { input.value = many ? "" : name(model.value) }
  const draw = () => {
    show()
    if (!many) { return }
    chips.replaceChildren(...model.values.map((value, number) => {
      const swatch = make("i", { style: `background: ${model.colors[number % model.colors.length]}` })
      const remove = make("button", { type: "button", "aria-label": `Remove ${name(value)}` }, "×")
      remove.addEventListener("click", (event) => {
        model.values = model.values.filter((one) => one !== value)
        if (event.detail === 0) { input.focus() }  // a key, whose focus would be lost with the button
      })
      return make("span", { class: "chip", title: name(value) }, swatch, make("b", {}, name(value)), remove)
    }))
  }
  const close = () => {
    if (opened()) {
      input.setAttribute("aria-expanded", "false")
      input.removeAttribute("aria-activedescendant")
      list.hidePopover()
    }
    status.textContent = ""
    show()
  }
  const choose = (option) => {
    close()
    if (option && many) {
      const others = model.values.filter((value) => value !== option.value)
      const there = others.length < model.values.length
      model.values = there ? others : [...others, option.value].slice(-model.most)
    } else if (option) {
      model.value = option.value
    }
    input.select()
  }

  input.addEventListener("pointerdown", () => { if (!opened()) { open("") } })
  input.addEventListener("focus", () => input.select())
  input.addEventListener("input", () => open(input.value))
  input.addEventListener("blur", close)
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key]
    if (step && !opened()) {
      open("")
    } else if (step && options.length > 0) {
      const last = options.length - 1
      // One step beyond an end goes round, a page stops there.
      mark(Math.abs(step) > 1 ? Math.max(0, Math.min(last, active + step)) : (active + step + last + 1) % (last + 1))
    } else if (event.key === "Enter" && opened()) {
      choose(options[active])
    } else if (event.key === "Escape" && opened()) {
      close()
      input.select()
    } else if (event.key === "Backspace" && many && input.value === "" && model.values.length > 0) {
      model.values = model.values.slice(0, -1)
    } else {
      return
    }
    event.preventDefault()
    event.stopPropagation()
  })
  list.addEventListener("pointerdown", (event) => event.preventDefault())  // the focus stays
  list.addEventListener("click", (event) => {
    const node = event.target.closest("[role=option]")
    if (node) { choose(options.find((option) => option.node === node)) }
  })
  for (const kind of ["scroll", "resize"]) {
    window.addEventListener(kind, (event) => { if (opened() && event.target !== list) { place() } }, true)
  }
  model.on(["value", "values", "groups"], () => { if (!opened()) { draw() } })
  draw()
  return box
}
