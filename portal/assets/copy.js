// Gives each .code block a button that copies its text. Without JavaScript there is no button, and the text can be selected.
(function () {
  'use strict'

  function select (node) {
    const range = document.createRange()
    range.selectNodeContents(node)
    const selection = window.getSelection()
    selection.removeAllRanges()
    selection.addRange(range)
  }

  async function copy (text, node) {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text)
    select(node) // a page over plain HTTP has no clipboard interface
    if (!document.execCommand('copy')) throw new Error('not copied')
  }

  function equip (block) {
    const source = block.querySelector('pre')
    if (!source || block.querySelector('button.copy')) return
    const button = document.createElement('button')
    button.type = 'button'
    button.className = 'copy'
    button.textContent = 'Copy'
    button.setAttribute('aria-label', block.dataset.copyLabel || 'Copy this text')
    const told = document.createElement('span')
    told.className = 'visually-hidden'
    told.setAttribute('role', 'status')
    button.addEventListener('click', async function () {
      try {
        await copy(source.textContent.trim(), source)
        button.textContent = 'Copied'
      } catch (error) {
        select(source)
        button.textContent = 'Press Ctrl+C'
      }
      told.textContent = button.textContent
      window.setTimeout(function () { button.textContent = 'Copy'; told.textContent = '' }, 2500)
    })
    block.append(button, told)
  }

  function equipAll (root) {
    if (root.matches && root.matches('.code')) equip(root)
    root.querySelectorAll('.code').forEach(equip)
  }

  equipAll(document)
  document.addEventListener('htmx:load', function (event) { equipAll(event.detail.elt) })
})()
