// Detections as marks on the picture and as a list, which is also the
// picture's text for those who do not see it.

import { useEffect, useRef } from 'preact/hooks'
import type { Signal } from '@preact/signals'
import type { Detection } from './api'
import { percent } from './controls'
import type { Mark } from './draw'
import { colourOf } from './palette'
import { hiddenClasses, leastScore, toggleClass } from './state'

/** A detection that is shown, with its index in the answer. */
export interface Shown {
  id: number
  detection: Detection
}

/** What the slider and the class filter let through, best first. */
export function shownOf(all: Detection[]): Shown[] {
  return all
    .map((detection, id) => ({ id, detection }))
    .filter(({ detection }) => detection.score >= leastScore.value && !hiddenClasses.value.has(detection.class))
}

export function marksOf(shown: Shown[]): Mark[] {
  return shown.map(({ id, detection: d }) => ({
    id, box: d.box, label: `${d.class} ${percent(d.score)}`, colour: colourOf(d.class), weight: 'plain',
  }))
}

export function describe(name: string, shown: Shown[]): string {
  if (shown.length === 0) return `${name}: no objects above the least score`
  const counts = new Map<string, number>()
  for (const { detection: d } of shown) counts.set(d.class, (counts.get(d.class) ?? 0) + 1)
  return `${name}: ${[...counts].map(([c, n]) => `${n} ${c}`).join(', ')}; the list has each of them`
}

/** Switches for the classes that were found. */
export function ClassFilter(p: { all: Detection[] }) {
  const counts = new Map<string, number>()
  for (const d of p.all) if (d.score >= leastScore.value) counts.set(d.class, (counts.get(d.class) ?? 0) + 1)
  // What was switched off stays, to be switched on again.
  for (const name of hiddenClasses.value) if (!counts.has(name) && p.all.some((d) => d.class === name)) counts.set(name, 0)
  if (counts.size === 0) return null
  return (
    <div class="field">
      <p class="label" id="classes-label">Classes</p>
      <ul class="chips" aria-labelledby="classes-label">
        {[...counts].map(([name, n]) => (
          <li key={name}>
            <button type="button" class="chip" aria-pressed={!hiddenClasses.value.has(name)} onClick={() => toggleClass(name)}>
              <Swatch colour={colourOf(name)} />
              {name} <span class="count">{n}</span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  )
}

export function Swatch(p: { colour: string }) {
  return <svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" rx="3" fill={p.colour} /></svg>
}

export function DetectionList(p: { shown: Shown[]; total: number; active: Signal<number | null>; waiting: boolean }) {
  const list = useRef<HTMLUListElement>(null)
  const { active } = p
  // What is pointed at in the picture comes into view in the list, without moving the page.
  useEffect(() => {
    const el = list.current?.querySelector<HTMLElement>('[data-active="true"]')
    const box = el?.closest<HTMLElement>('.panel-scroll')
    if (!el || !box || el.contains(document.activeElement)) return
    const a = el.getBoundingClientRect()
    const b = box.getBoundingClientRect()
    if (a.top < b.top) box.scrollTop -= b.top - a.top + 8
    if (a.bottom > b.bottom) box.scrollTop += a.bottom - b.bottom + 8
  }, [active.value])
  const move = (e: KeyboardEvent) => {
    const by = e.key === 'ArrowDown' ? 1 : e.key === 'ArrowUp' ? -1 : 0
    if (!by) return
    const rows = [...list.current!.querySelectorAll<HTMLButtonElement>('button')]
    const next = rows[rows.indexOf(document.activeElement as HTMLButtonElement) + by]
    if (next) {
      e.preventDefault()
      next.focus()
    }
  }
  return (
    <section aria-labelledby="found">
      <div class="list-head">
        <h2 id="found">{p.waiting ? 'Looking…' : p.shown.length === 1 ? '1 object' : `${p.shown.length} objects`}</h2>
        {!p.waiting && p.total > p.shown.length && <span class="hint">of {p.total} candidates</span>}
      </div>
      <ul class="rows" ref={list} onKeyDown={move}>
        {p.shown.map(({ id, detection: d }) => (
          <li key={id}>
            <button
              type="button" class="row" data-active={active.value === id}
              onMouseEnter={() => (active.value = id)} onMouseLeave={() => (active.value = null)}
              onFocus={() => (active.value = id)} onBlur={() => (active.value = null)} onClick={() => (active.value = id)}
            >
              <Swatch colour={colourOf(d.class)} />
              <span class="row-name">{d.class}</span>
              <span class="row-size">{Math.round(d.box[2] - d.box[0])} × {Math.round(d.box[3] - d.box[1])}</span>
              <span class="row-score">{percent(d.score)}</span>
              <meter class="row-bar" min={0} max={1} value={d.score} aria-hidden="true" />
            </button>
          </li>
        ))}
      </ul>
      {!p.waiting && p.shown.length === 0 && (
        <p class="empty-list">{p.total > 0 ? 'Nothing passes the least score and the class filter.' : 'The model finds nothing in this picture.'}</p>
      )}
    </section>
  )
}
