// Trainings: the form that begins one, and what its job shows: the curves, and
// the way to the model beside the one that it started from.

import { useSignal } from '@preact/signals'
import type { Job, Loss, Training } from './api'
import { Button, FileButton, percent } from './controls'
import { go, model, models, setModel, setSides } from './state'

const dataTypes = '.zip,.tar,.tgz,.tar.gz,application/zip'

export function TrainForm(p: { onSubmit: (file: File, wanted: Record<string, string | number>) => void }) {
  const start = useSignal('')
  const name = useSignal('')
  const steps = useSignal('')
  const lenient = useSignal(false)
  const from = models.value.some((m) => m.name === start.value) ? start.value : model.value
  return (
    <details class="card training-form">
      <summary><h2>Train a model on your own photos</h2></summary>
      <p class="hint">A zip or tar with photos and their boxes as VOC, COCO or YOLO has them. It is checked first; what is wrong is said by file and object.</p>
      <div class="options">
        <div class="field">
          <label for="train-start">Start from</label>
          <select id="train-start" value={from} onChange={(e) => (start.value = e.currentTarget.value)}>
            {models.value.map((m) => <option key={m.name} value={m.name}>{m.name}</option>)}
          </select>
        </div>
        <div class="field">
          <label for="train-name">Name of the new model</label>
          <input id="train-name" type="text" autocomplete="off" spellcheck={false} maxLength={60} placeholder="as the file" value={name.value} onInput={(e) => (name.value = e.currentTarget.value)} />
        </div>
        <div class="field">
          <label for="train-steps">Steps</label>
          <input id="train-steps" type="number" min={1} max={1000000} placeholder="as the data ask for" value={steps.value} onInput={(e) => (steps.value = e.currentTarget.value)} />
        </div>
        <div class="checks">
          <label class="check"><input id="train-lenient" type="checkbox" checked={lenient.value} onChange={(e) => (lenient.value = e.currentTarget.checked)} /> Train in spite of what the check finds</label>
        </div>
      </div>
      <div class="button-row end">
        <FileButton
          id="choose-data" icon="file" kind="main" accept={dataTypes}
          onFiles={([file]) => {
            p.onSubmit(file!, { kind: 'train', model: from, name: name.value.trim(), steps: steps.value, lenient: String(lenient.value) })
            name.value = ''
          }}
        >
          Choose the data set
        </FileButton>
      </div>
    </details>
  )
}

const width = 640
const height = 260
const pad = { left: 64, right: 76, top: 16, bottom: 42 }

const parts: [keyof Loss, string][] = [['total', 'loss'], ['classifier', 'class'], ['box', 'box'], ['objectness', 'objectness'], ['rpn_box', 'proposals']]

/** What a job of kind train shows below its progress. */
export function TrainingBody({ job }: { job: Job }) {
  const t = job.training!
  const compare = () => {
    setSides(job.model, t.model)
    go('compare')
  }
  const use = () => {
    setModel(t.model)
    go('detect')
  }
  return (
    <>
      {(t.losses?.length ?? 0) + (t.scores?.length ?? 0) > 0 && <TrainingCurves training={t} steps={job.progress.total} name={t.model} />}
      {job.state === 'done' && (
        <div class="button-row">
          <Button icon="compare" kind="main" onClick={compare}>Compare with {job.model}</Button>
          <Button icon="detect" onClick={use}>Use {t.model}</Button>
        </div>
      )}
    </>
  )
}

/** Losses on the left axis, the score on the validation set on the right one. */
function TrainingCurves({ training, steps, name }: { training: Training; steps: number; name: string }) {
  const losses = training.losses ?? []
  const scores = training.scores ?? []
  const last = Math.max(steps, 1, ...losses.map((l) => l.step), ...scores.map((s) => s.step))
  // The first losses of a new head stand far above the others.
  const sorted = losses.map((l) => l.total).sort((a, b) => a - b)
  const top = sorted.length > 0 ? Math.min(sorted.at(-1)!, 3 * sorted[Math.floor(sorted.length * 0.9)]!) || 1 : 1
  const x = (step: number) => pad.left + (step / last) * (width - pad.left - pad.right)
  const y = (share: number) => height - pad.bottom - Math.min(share, 1.02) * (height - pad.top - pad.bottom)
  const line = (points: [number, number][]) => points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(' ')
  const now = losses.at(-1)
  const score = scores.at(-1)
  const said = [now && `loss ${now.total.toFixed(3)} at step ${now.step}`, score && `mAP ${percent(score.value)} at step ${score.step}`].filter(Boolean).join(', ')
  return (
    <figure class="training">
      <svg class="plot" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`Training of ${name}: ${said}`}>
        {[0, 0.25, 0.5, 0.75, 1].map((v) => (
          <g key={v}>
            <line class="grid" x1={x(0)} x2={x(last)} y1={y(v)} y2={y(v)} />
            {losses.length > 0 && <text x={x(0) - 6} y={y(v) + 4} text-anchor="end">{(v * top).toPrecision(2)}</text>}
            {scores.length > 0 && <text class="curve-score-text" x={x(last) + 6} y={y(v) + 4}>{100 * v} %</text>}
          </g>
        ))}
        {[0, last].map((v) => <text key={v} x={x(v)} y={height - 12} text-anchor={v === 0 ? 'start' : 'end'}>{v === 0 ? 'step 0' : v}</text>)}
        {[...parts].reverse().map(([key]) => (
          <polyline key={key} class={`curve curve-${key}`} points={line(losses.map((l) => [l.step, l[key] / top]))} />
        ))}
        <polyline class="curve curve-score" points={line(scores.map((s) => [s.step, s.value]))} />
        {scores.map((s) => <circle key={s.step} class="curve-score-dot" cx={x(s.step)} cy={y(s.value)} r={3.5} />)}
      </svg>
      <figcaption>
        {scores.length > 0 && <Key line="score" text={`mAP on held-out photos ${score ? percent(score.value) : ''}`} />}
        {now && parts.map(([key, text]) => <Key key={key} line={key} text={`${text} ${now[key].toFixed(3)}`} />)}
      </figcaption>
    </figure>
  )
}

const Key = (p: { line: string; text: string }) => (
  <span class="curve-key"><svg class="key-line" viewBox="0 0 24 8" aria-hidden="true"><line class={`curve curve-${p.line}`} x1="0" x2="24" y1="4" y2="4" /></svg>{p.text}</span>
)
