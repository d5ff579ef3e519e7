// Keys of the whole page, and the dialog that lists them.

import { useEffect, useRef } from 'preact/hooks'
import { signal } from '@preact/signals'
import { leastScore, letterKeys, go, setLeastScore, showLabels, views } from './state'
import { stepPicture } from './pictures'
import { cycleTheme } from './theme'
import { Button } from './controls'

/** What only the view on show can do. */
export interface Commands {
  saveJSON?: () => void
  savePicture?: () => void
  swap?: () => void
}

let commands: Commands = {}

/** Sets what the view offers; returns how to take it back. */
export function onCommand(c: Commands): () => void {
  commands = c
  return () => {
    if (commands === c) commands = {}
  }
}

export const helpOpen = signal(false)

const table: [keys: string[], what: string][] = [
  [['1', '2', '3', '4', '5'], 'detect, compare, live, gain, jobs'],
  [['O'], 'open pictures or files'],
  [['[', ']'], 'previous, next picture'],
  [[',', '.'], 'lower, raise the least score'],
  [['+', '−', '0'], 'zoom in, out, show all (picture focused)'],
  [['←', '→', '↑', '↓'], 'move the enlarged picture; step through the list'],
  [['L'], 'labels on and off'],
  [['X'], 'swap the compared models'],
  [['S', 'P'], 'save JSON, save picture'],
  [['T'], 'theme: as the system, light, dark'],
  [['?'], 'this list'],
]

function press(e: KeyboardEvent) {
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || document.querySelector('dialog[open]')) return
  const t = e.target as HTMLElement
  if (t.matches('input:not([type=range]):not([type=checkbox]):not([type=radio]), select, textarea')) return
  if (e.key === '?') helpOpen.value = true
  else if (!letterKeys.value) return
  else if (e.key >= '1' && e.key <= '5') go(views[Number(e.key) - 1]!)
  else {
    switch (e.key.toLowerCase()) {
      case 'o':
        document.querySelector<HTMLInputElement>('main input[type=file]')?.click()
        break
      case '[': stepPicture(-1); break
      case ']': stepPicture(1); break
      case ',': setLeastScore(leastScore.value - 0.05); break
      case '.': setLeastScore(leastScore.value + 0.05); break
      case 'l': showLabels.value = !showLabels.value; break
      case 'x': commands.swap?.(); break
      case 's': commands.saveJSON?.(); break
      case 'p': commands.savePicture?.(); break
      case 't': cycleTheme(); break
      default: return
    }
  }
  e.preventDefault()
}

export function Shortcuts() {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    addEventListener('keydown', press)
    return () => removeEventListener('keydown', press)
  }, [])
  useEffect(() => {
    if (helpOpen.value && !dialog.current!.open) dialog.current!.showModal()
  }, [helpOpen.value])
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="help-title" onClose={() => (helpOpen.value = false)}>
      <h2 id="help-title">Keys</h2>
      <dl class="keys">
        {table.map(([keys, what]) => (
          <div key={what}>
            <dt>{keys.map((k) => <kbd key={k}>{k}</kbd>)}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input type="checkbox" checked={letterKeys.value} onChange={(e) => (letterKeys.value = e.currentTarget.checked)} />
        Single keys act (turn off for speech control)
      </label>
      <div class="button-row end">
        <Button kind="main" onClick={() => dialog.current!.close()}>Close</Button>
      </div>
    </dialog>
  )
}

