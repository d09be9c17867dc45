// Says in a sentence what went wrong with a passkey; allauth would only write it to the console.
(function () {
  'use strict'
  const sentences = {
    NotAllowedError: 'The passkey was not used: the request was cancelled or took too long. Try again.',
    InvalidStateError: 'This key is registered already: use another one.',
    SecurityError: 'Passkeys do not work at this address: open the portal under its own name over https, or at localhost.'
  }
  document.addEventListener('allauth.error', function (event) {
    event.preventDefault()
    const place = document.getElementById('messages')
    const notice = document.createElement('p')
    notice.className = 'notice bad'
    const name = event.detail.exception && event.detail.exception.name
    notice.textContent = sentences[name] || 'The passkey could not be used in this browser: try another way to sign in.'
    place.replaceChildren(notice)
    place.scrollIntoView({ block: 'nearest' })
  })
})()
