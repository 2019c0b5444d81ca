// The area stands in the pane with the command line, the address in the link that is hidden.
const unescape = (text) => new DOMParser().parseFromString(text, "text/html").documentElement.textContent
const say = (text) => { note.text = `&lt;div class="note"&gt;${text}&lt;/div&gt;` }
const area = unescape(unescape(code.text).match(/data-area="([^"]*)"/)[1])
say("Preparing the file.")
fetch(link.data?.href ?? link.href, {
  method: "POST", headers: { "Content-Type": "application/geo+json" }, body: area,
}).then(async (answer) => {
  if (!answer.ok) { throw new Error((await answer.json()).error) }
  const name = answer.headers.get("Content-Disposition").match(/filename="([^"]*)"/)[1]
  const anchor = document.createElement("a")
  anchor.href = URL.createObjectURL(await answer.blob())
  anchor.download = name
  anchor.click()
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000)
  say(`${name} was downloaded.`)
}).catch((error) => say(error.message))
