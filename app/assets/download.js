// The area stands in the pane with the lines, the address in the link that is hidden. The server
// says where the file is when it is made; from there the browser takes it like any other.
const unescape = (text) => new DOMParser().parseFromString(text, "text/html").documentElement.textContent
const say = (text) => { note.text = `&lt;div class="note"&gt;${text}&lt;/div&gt;` }
const area = unescape(unescape(code.text).match(/data-area="([^"]*)"/)[1])
say("Preparing the file.")
fetch(link.data?.href ?? link.href, {
  method: "POST", body: area,
  headers: { "Content-Type": "application/geo+json", "Accept": "application/json" },
}).then(async (answer) => {
  const told = await answer.json()
  if (!answer.ok) { throw new Error(told.error) }
  const anchor = document.createElement("a")
  anchor.href = told.href
  anchor.download = ""
  anchor.click()
  say(`The file has ${(told.bytes / 1e6).toPrecision(3)} MB.`)
}).catch((error) => say(error.message))
