// The frame of the page: header, views, messages.

import { useEffect } from 'preact/hooks'
import { Compare } from './compare'
import { Button, Failure } from './controls'
import { Detect } from './detect'
import { DropZone } from './dropzone'
import { Gain } from './gain'
import { Icon } from './icons'
import { Jobs } from './jobs'
import { KeyDialog } from './keydialog'
import { Live } from './live'
import { helpOpen, Shortcuts } from './shortcuts'
import { dismiss, loadModels, models, modelsError, notices, spoken, view, views, type ViewName } from './state'
import { ThemeButton } from './theme'

const names: Record<ViewName, string> = { detect: 'Detect', compare: 'Compare', live: 'Live', gain: 'Gain', jobs: 'Jobs' }
const bodies: Record<ViewName, () => preact.JSX.Element> = { detect: Detect, compare: Compare, live: Live, gain: Gain, jobs: Jobs }

export function App() {
  useEffect(() => void loadModels(), [])
  useEffect(() => {
    document.title = `${names[view.value]} · resdet`
    notices.value = [] // they are of the view that was left
  }, [view.value])
  const Body = bodies[view.value]
  // Reports need no server; everything else needs its models.
  const lacking = view.value !== 'gain' && modelsError.value
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById('main')!.focus() }}>Skip to the content</a>
      <header class="top">
        <a class="brand" href="#detect" aria-label="resdet, start">
          <img src="icon.svg" alt="" width="28" height="28" />
          <span>resdet</span>
        </a>
        <nav class="tabs" aria-label="Views">
          {views.map((v) => (
            <a key={v} href={`#${v}`} class="tab" aria-current={view.value === v ? 'page' : undefined}>
              <Icon name={v} />
              <span>{names[v]}</span>
            </a>
          ))}
        </nav>
        <div class="top-tools">
          <button type="button" class="tool" aria-label="Keys" title="Keys (?)" onClick={() => (helpOpen.value = true)}><Icon name="keyboard" /></button>
          <ThemeButton />
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {lacking ? (
          <div class="page"><Failure error={lacking} onRetry={() => void loadModels()} /></div>
        ) : models.value.length === 0 && view.value !== 'gain' ? (
          <div class="page"><p class="hint" role="status"><span class="spinner" /> Asking the server for its models…</p></div>
        ) : (
          <Body />
        )}
      </main>
      <div class="notices">
        {notices.value.map((n) => (
          <div key={n.id} class="notice" role="alert">
            <div>
              <p>{n.text}</p>
              {n.detail && <p class="hint">{n.detail}</p>}
            </div>
            <Button kind="quiet" onClick={() => dismiss(n.id)}>Close</Button>
          </div>
        ))}
      </div>
      <div class="sr" role="status" aria-live="polite">{spoken.value}</div>
      <Shortcuts />
      <KeyDialog />
      <DropZone />
    </>
  )
}
