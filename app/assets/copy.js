// Copies a text: `what` is "address", or the class of an element that holds it.
const find = (root) => root.querySelector(`.${what}`)
  ?? [...root.querySelectorAll("*")].map((one) => one.shadowRoot && find(one.shadowRoot)).find(Boolean)
const text = what === "address" ? window.location.href : find(document).textContent
const say = (words) => { note.text = `&lt;div class="note" role="status"&gt;${words}&lt;/div&gt;` }
const old = () => {  // outside https and localhost there is no clipboard to write to
  const area = document.createElement("textarea")
  area.value = text
  document.body.append(area)
  area.select()
  const done = document.execCommand("copy")
  area.remove()
  return done ? Promise.resolve() : Promise.reject(new Error("the browser did not allow it"))
}
const write = navigator.clipboard ? navigator.clipboard.writeText(text).catch(old) : old()
write.then(() => say("Copied.")).catch((error) => say(`Not copied: ${error.message}.`))
