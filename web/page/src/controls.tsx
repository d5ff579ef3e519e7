// Small parts that the views share.

import type { ComponentChildren } from 'preact'
import { useRef } from 'preact/hooks'
import { leastScore, model, models, scoreFloor, scoreTop, setLeastScore, setModel } from './state'
import { Icon, type IconName } from './icons'

export function Button(p: { icon?: IconName; kind?: 'main' | 'quiet'; disabled?: boolean; title?: string; onClick: () => void; children: ComponentChildren }) {
  return (
    <button type="button" class={`button ${p.kind ?? ''}`} disabled={p.disabled} title={p.title} onClick={p.onClick}>
      {p.icon && <Icon name={p.icon} />}
      <span>{p.children}</span>
    </button>
  )
}

/** A button that opens the file chooser. */
export function FileButton(p: { icon: IconName; kind?: 'main' | 'quiet'; accept: string; multiple?: boolean; id?: string; onFiles: (files: File[]) => void; children: ComponentChildren }) {
  const input = useRef<HTMLInputElement>(null)
  return (
    <>
      <Button icon={p.icon} kind={p.kind} onClick={() => input.current!.click()}>{p.children}</Button>
      <input
        ref={input} id={p.id} type="file" hidden accept={p.accept} multiple={p.multiple}
        onChange={(e) => {
          const files = [...(e.currentTarget.files ?? [])]
          e.currentTarget.value = '' // the same file may be chosen again
          if (files.length > 0) p.onFiles(files)
        }}
      />
    </>
  )
}

export function ModelSelect(p: { id: string; label: string; value: string; onChange: (name: string) => void; badge?: string }) {
  const chosen = models.value.find((m) => m.name === p.value)
  return (
    <div class="field">
      <label for={p.id}>
        {p.badge && <span class={`badge badge-${p.badge}`}>{p.badge.toUpperCase()}</span>}
        {p.label}
      </label>
      <select id={p.id} value={p.value} onChange={(e) => p.onChange(e.currentTarget.value)}>
        {models.value.map((m) => <option key={m.name} value={m.name}>{m.name}</option>)}
      </select>
      {chosen && <p class="hint">{describeModel(chosen)}</p>}
    </div>
  )
}

export const DetectModel = () => <ModelSelect id="model" label="Model" value={model.value} onChange={setModel} />

function describeModel(m: (typeof models.value)[number]): string {
  const scores = Object.entries(m.scores ?? {}).map(([name, v]) => `${name} ${(v <= 1 ? 100 * v : v).toFixed(1)}`)
  return [m.arch, `${m.classes.length} classes`, m.precision, ...scores.slice(0, 1)].join(' · ')
}

/** Above the slider stands how many detections have which score: where to cut shows at a glance. */
export function ScoreSlider(p: { scores: number[] }) {
  const bins = 30
  const counts = new Array<number>(bins).fill(0)
  for (const s of p.scores) {
    const at = Math.min(bins - 1, Math.max(0, Math.floor(((s - scoreFloor) / (1 - scoreFloor)) * bins)))
    counts[at]!++
  }
  const most = Math.max(1, ...counts)
  const cut = ((leastScore.value - scoreFloor) / (1 - scoreFloor)) * bins
  return (
    <div class="field">
      <div class="field-head">
        <label for="score">Least score</label>
        <output for="score">{leastScore.value.toFixed(2)}</output>
      </div>
      <svg class="histogram" viewBox={`0 0 ${bins * 4} 24`} preserveAspectRatio="none" aria-hidden="true">
        {counts.map((n, i) => n > 0 && (
          <rect key={i} class={i + 0.5 < cut ? 'below' : ''} x={i * 4 + 0.5} width={3} y={24 - 4 - (20 * Math.sqrt(n / most))} height={4 + 20 * Math.sqrt(n / most)} rx={1} />
        ))}
      </svg>
      <input
        id="score" type="range" min={scoreFloor} max={scoreTop} step={0.01} value={leastScore.value}
        onInput={(e) => setLeastScore(Number(e.currentTarget.value))}
      />
    </div>
  )
}

export function Failure(p: { error: Error; onRetry?: () => void }) {
  const e = p.error as Error & { code?: string; requestID?: string }
  return (
    <div class="failure" role="alert">
      <p class="failure-text">{e.message}</p>
      <p class="hint">{[e.code, e.requestID && `request ${e.requestID}`].filter(Boolean).join(' · ')}</p>
      {p.onRetry && <Button icon="retry" onClick={p.onRetry}>Try again</Button>}
    </div>
  )
}

/** ms of the stages in the order in which they happen, if the server names them. */
export function Timing(p: { ms: Record<string, number> }) {
  const { total, ...stages } = p.ms
  const parts = Object.entries(stages).filter(([, v]) => v >= 0.5).sort(([, a], [, b]) => b - a).slice(0, 3)
  if (total === undefined) return null
  return (
    <p class="hint timing">
      {format(total)} ms
      {parts.length > 0 && <span> — {parts.map(([k, v]) => `${stageNames[k] ?? k} ${format(v)}`).join(', ')}</span>}
    </p>
  )
}

const stageNames: Record<string, string> = { stage1: 'features', stage2: 'regions', post: 'suppression', queue: 'waiting' }
const format = (v: number) => (v < 10 ? v.toFixed(1) : v.toFixed(0))

export const percent = (v: number) => `${Math.round(100 * v)} %`
