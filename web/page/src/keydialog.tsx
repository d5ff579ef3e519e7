// Asks for the access key when the server wants one.

import { useEffect, useRef } from 'preact/hooks'
import { keyRefused, keyWanted } from './api'
import { Button } from './controls'

export function KeyDialog() {
  const dialog = useRef<HTMLDialogElement>(null)
  const input = useRef<HTMLInputElement>(null)
  const answer = keyWanted.value
  useEffect(() => {
    if (answer && !dialog.current!.open) dialog.current!.showModal()
    if (!answer && dialog.current!.open) dialog.current!.close()
  }, [answer])
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="key-title" onCancel={() => answer?.(null)}>
      <form
        method="dialog"
        onSubmit={(e) => {
          e.preventDefault()
          answer?.(input.current!.value.trim())
        }}
      >
        <h2 id="key-title">Access key</h2>
        <p>{keyRefused.value ? 'The server does not take this key.' : 'This server asks for a key.'} It is kept until this tab is closed.</p>
        <div class="field">
          <label for="key">Key</label>
          <input ref={input} id="key" type="password" autocomplete="off" required />
        </div>
        <div class="button-row end">
          <Button kind="quiet" onClick={() => answer?.(null)}>Not now</Button>
          <button type="submit" class="button main"><span>Use the key</span></button>
        </div>
      </form>
    </dialog>
  )
}
