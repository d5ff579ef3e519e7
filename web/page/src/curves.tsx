// Precision against recall, of one class or the mean of all, for every report
// that is loaded.

import { useSignal } from '@preact/signals'
import type { EvalReport } from './reports'

const width = 640
const height = 340
const pad = { left: 72, right: 16, top: 12, bottom: 52 }
const x = (recall: number) => pad.left + recall * (width - pad.left - pad.right)
const y = (precision: number) => height - pad.bottom - precision * (height - pad.top - pad.bottom)

/** The curve of a class, or the mean over the classes that have one. */
function curveOf(r: EvalReport, name: string, iou: number): number[] | null {
  const all = r.curves.filter((c) => Math.abs(c.iou - iou) < 1e-6 && (name === '' || c.class === name))
  if (all.length === 0) return null
  return all[0]!.precision.map((_, i) => all.reduce((sum, c) => sum + (c.precision[i] ?? 0), 0) / all.length)
}

export function Curves({ reports }: { reports: EvalReport[] }) {
  const name = useSignal('')
  const iou = useSignal(0.5)
  const classes = [...new Set(reports.flatMap((r) => r.curves.map((c) => c.class)))]
  const ious = [...new Set(reports.flatMap((r) => r.curves.map((c) => c.iou)))].sort()
  const lines = reports.map((r, i) => ({ name: r.name, style: i % 4, curve: curveOf(r, name.value, iou.value) }))
  const grid = [0, 0.2, 0.4, 0.6, 0.8, 1]
  const mean = (c: number[]) => c.reduce((a, b) => a + b, 0) / c.length
  return (
    <section class="card" aria-labelledby="curves">
      <div class="card-head">
        <h2 id="curves">Precision and recall</h2>
        <div class="field inline">
          <label for="curve-class">Class</label>
          <select id="curve-class" value={name.value} onChange={(e) => (name.value = e.currentTarget.value)}>
            <option value="">mean of all</option>
            {classes.map((c) => <option key={c}>{c}</option>)}
          </select>
        </div>
        {ious.length > 1 && (
          <div class="field inline">
            <label for="curve-iou">Overlap</label>
            <select id="curve-iou" value={iou.value} onChange={(e) => (iou.value = Number(e.currentTarget.value))}>
              {ious.map((v) => <option key={v} value={v}>{v.toFixed(2)}</option>)}
            </select>
          </div>
        )}
      </div>
      <svg class="plot" viewBox={`0 0 ${width} ${height}`} role="img" aria-label="Precision against recall; the table below has the figures">
        {grid.map((v) => (
          <g key={v}>
            <line class="grid" x1={x(v)} x2={x(v)} y1={y(0)} y2={y(1)} />
            <line class="grid" x1={x(0)} x2={x(1)} y1={y(v)} y2={y(v)} />
            <text x={x(v)} y={y(0) + 16} text-anchor="middle">{v}</text>
            <text x={x(0) - 8} y={y(v) + 4} text-anchor="end">{v}</text>
          </g>
        ))}
        <text x={x(0.5)} y={height - 4} text-anchor="middle">recall</text>
        <text transform={`translate(18 ${y(0.5)}) rotate(-90)`} text-anchor="middle">precision</text>
        {lines.map((l) => l.curve && (
          <polyline key={l.name} class={`curve curve-${l.style}`} points={l.curve.map((p, i) => `${x(i / (l.curve!.length - 1)).toFixed(1)},${y(p).toFixed(1)}`).join(' ')} />
        ))}
      </svg>
      <div class="scroll" tabIndex={0} role="group" aria-label="Precision at recall">
        <table class="figures">
          <caption class="sr">Precision at recall</caption>
          <thead>
            <tr><th scope="col">report</th>{grid.slice(0, 5).map((v) => <th key={v} scope="col">at {v}</th>)}<th scope="col">AP{Math.round(100 * iou.value)}</th></tr>
          </thead>
          <tbody>
            {lines.map((l) => (
              <tr key={l.name}>
                <th scope="row"><svg class="key-line" viewBox="0 0 24 8" aria-hidden="true"><line class={`curve curve-${l.style}`} x1="0" x2="24" y1="4" y2="4" /></svg> {l.name}</th>
                {grid.slice(0, 5).map((v) => <td key={v}>{l.curve ? (100 * l.curve[Math.round(v * (l.curve.length - 1))]!).toFixed(0) : '–'}</td>)}
                <td><b>{l.curve ? (100 * mean(l.curve)).toFixed(1) : '–'}</b></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  )
}
