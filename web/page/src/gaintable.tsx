// The gain by class and by size: a table that sorts, with a bar in every row.

import { useSignal } from '@preact/signals'
import type { CompareReport, Gain } from './reports'
import { figure, points } from './gain'

const columns: [key: 'name' | 'objects' | 'baseline' | 'candidate' | 'gain', text: string][] = [
  ['name', 'class'], ['objects', 'objects'], ['baseline', 'baseline'], ['candidate', 'candidate'], ['gain', 'gain'],
]

export function GainTable({ report: r }: { report: CompareReport }) {
  const by = useSignal<(typeof columns)[number][0]>('gain')
  const down = useSignal(true)
  const rows = [...r.perClass].sort((p, q) => {
    const [x, y] = [p[by.value], q[by.value]]
    if (x === null || y === null) return Number(x === null) - Number(y === null)
    const order = typeof x === 'string' ? x.localeCompare(y as string) : x - (y as number)
    return down.value ? -order : order
  })
  const every = [r.all, ...r.perSize, ...rows]
  const ends = every.flatMap((g) => [g.gain ?? 0, ...(g.ci95 ?? [])])
  const low = Math.min(-0.005, ...ends)
  const high = Math.max(0.005, ...ends)
  const at = (v: number) => (100 * (v - low)) / (high - low)
  const sort = (key: (typeof columns)[number][0]) => {
    if (by.value === key) down.value = !down.value
    else {
      by.value = key
      down.value = key !== 'name'
    }
  }
  const line = (g: Gain, kind: string) => (
    <tr key={kind + g.name} class={kind}>
      <th scope="row">{g.name}</th>
      <td class="wide">{g.objects || ''}</td>
      <td>{figure(g.baseline)}</td>
      <td>{figure(g.candidate)}</td>
      <td class={g.gain === null ? '' : g.gain < 0 ? 'bad' : 'good'}>{points(g.gain)}</td>
      <td class="gain-cell">
        {g.gain !== null && (
          <svg viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">
            <line class="zero" x1={at(0)} x2={at(0)} y1={0} y2={16} />
            <rect class={g.gain < 0 ? 'loss' : 'win'} x={Math.min(at(0), at(g.gain))} width={Math.max(0.4, Math.abs(at(g.gain) - at(0)))} y={4} height={8} />
            {g.ci95 && <line class="whisker" x1={at(g.ci95[0])} x2={at(g.ci95[1])} y1={8} y2={8} />}
          </svg>
        )}
        {g.ci95 && <span class="sr">95 % interval {points(g.ci95[0])} to {points(g.ci95[1])}</span>}
      </td>
    </tr>
  )
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="Gain by class and size">
      <table class="figures gains">
        <thead>
          <tr>
            {columns.map(([key, text]) => (
              <th key={key} scope="col" class={key === 'objects' ? 'wide' : ''} aria-sort={by.value === key ? (down.value ? 'descending' : 'ascending') : undefined}>
                <button type="button" class="sort" onClick={() => sort(key)}>{text}{by.value === key && <span aria-hidden="true">{down.value ? ' ↓' : ' ↑'}</span>}</button>
              </th>
            ))}
            <th scope="col"><span class="sr">bar</span></th>
          </tr>
        </thead>
        <tbody>{line(r.all, 'total')}</tbody>
        {r.perSize.length > 0 && <tbody>{r.perSize.map((g) => line(g, 'size'))}</tbody>}
        <tbody>{rows.map((g) => line(g, 'class'))}</tbody>
      </table>
    </div>
  )
}
