// A field for an expression. What is written is sent as a whole when it is asked for, and not key
// by key; a mistake is shown below, and the cursor goes to its place.
export function render({ model }) {
  const form = document.createElement("form")
  form.className = "field expression"
  form.innerHTML = `
    <label for="expression"></label>
    <input id="expression" type="text" autocomplete="off" autocapitalize="off" spellcheck="false"
      enterkeyhint="go" aria-describedby="mistake">
    <button type="submit"></button>
    <div id="mistake" role="alert"></div>`
  const [label, input, button, mistake] = form.children
  label.textContent = model.label
  input.placeholder = model.placeholder
  input.maxLength = model.length
  button.textContent = model.action
  let sent = null

  form.addEventListener("submit", (event) => {
    event.preventDefault()
    sent = input.value
    model.send_msg(sent)
  })
  input.addEventListener("input", () => {
    if (model.mistake !== "") {
      model.mistake = ""
    }
  })
  const judge = () => {
    mistake.innerHTML = model.mistake  // written by Python, where all of the user's text is escaped
    input.setAttribute("aria-invalid", String(model.mistake !== ""))
    if (model.mistake !== "" && model.position >= 0 && input.value === sent) {
      const place = model.position + sent.length - sent.trimStart().length
      input.setSelectionRange(place, place)
    }
  }
  model.on(["mistake", "position"], judge)
  model.on("msg:custom", (text) => {
    input.value = text
    input.focus()
    input.setSelectionRange(text.length, text.length)
  })
  judge()
  return form
}
