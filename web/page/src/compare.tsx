// Two models on the same picture, side by side, with what only one of them
// finds standing out. The server pairs the detections down to the score floor;
// the slider decides here which of a pair are shown, so that an object that one
// model sees less surely moves from "both" to "only" as the slider rises.

import { useSignal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import type { Compared, Detection } from './api'
import { Button, Failure, ModelSelect, percent, ScoreSlider } from './controls'
import { ClassFilter, Swatch } from './detections'
import type { Mark } from './draw'
import { Icon } from './icons'
import { Filmstrip, Invite } from './invite'
import { sideColours } from './palette'
import { current, pairOf, retry, waitingNote } from './pictures'
import { saveJSON, stem } from './save'
import { onCommand } from './shortcuts'
import { Stage } from './stage'
import { hiddenClasses, leastScore, modelA, modelB, models, setSides } from './state'
import { whole } from './view'

export type Kind = 'both' | 'a' | 'b'

/** An object, and how each side sees it. */
interface Pair {
  id: number
  kind: Kind
  a: Detection | null
  b: Detection | null
  overlap: number
}

function pairsOf(c: Compared): Pair[] {
  const pairs: Omit<Pair, 'id' | 'kind'>[] = c.matches.map((m) => ({ a: c.a.detections[m.a]!, b: c.b.detections[m.b]!, overlap: m.overlap }))
  const inA = new Set(c.matches.map((m) => m.a))
  const inB = new Set(c.matches.map((m) => m.b))
  c.a.detections.forEach((d, i) => inA.has(i) || pairs.push({ a: d, b: null, overlap: 0 }))
  c.b.detections.forEach((d, i) => inB.has(i) || pairs.push({ a: null, b: d, overlap: 0 }))
  const best = (p: { a: Detection | null; b: Detection | null }) => Math.max(p.a?.score ?? 0, p.b?.score ?? 0)
  return pairs.sort((p, q) => best(q) - best(p)).map((p, id) => ({ ...p, id, kind: 'both' }))
}

const passes = (d: Detection | null): d is Detection => d !== null && d.score >= leastScore.value && !hiddenClasses.value.has(d.class)

function shownPairs(pairs: Pair[]): Pair[] {
  return pairs.flatMap((p): Pair[] => {
    const a = passes(p.a)
    const b = passes(p.b)
    if (!a && !b) return []
    return [{ ...p, kind: a && b ? 'both' : a ? 'a' : 'b' }]
  })
}

function sideMarks(pairs: Pair[], side: 'a' | 'b', only: Kind | 'all'): Mark[] {
  return pairs.flatMap((p): Mark[] => {
    const d = p[side]
    const other = side === 'a' ? 'b' : 'a'
    // Where the other side alone sees something, a dashed box stands.
    if (p.kind === other && !(only !== 'all' && only !== other)) {
      return [{ id: p.id, box: p[other]!.box, label: '', colour: sideColours[other], weight: 'ghost' }]
    }
    if (!passes(d) || (only !== 'all' && p.kind !== only)) return []
    const alone = p.kind !== 'both'
    return [{
      id: p.id, box: d.box, label: `${d.class} ${percent(d.score)}`,
      colour: alone ? sideColours[side] : sideColours.both, weight: alone ? 'strong' : only === 'both' ? 'plain' : 'faint',
    }]
  })
}

const kinds: [Kind | 'all', string][] = [['all', 'All'], ['both', 'Both'], ['a', 'Only A'], ['b', 'Only B']]

export function Compare() {
  const picture = current()
  const [a, b] = [modelA.value, modelB.value]
  const answer = picture?.compared.value.get(pairOf(a, b))
  const value = answer?.state === 'done' ? answer.value : null
  const pairs = useMemo(() => (value ? pairsOf(value) : []), [value])
  const shown = useMemo(() => shownPairs(pairs), [pairs, leastScore.value, hiddenClasses.value])
  const only = useSignal<Kind | 'all'>('all')
  const view = useSignal(whole)
  const active = useSignal<number | null>(null)
  useEffect(() => {
    view.value = whole
    active.value = null
  }, [picture?.id])
  const swap = () => setSides(b, a)
  const keepJSON = () => picture && value && saveJSON(value, `${stem(picture.name)}-compared.json`)
  useEffect(() => onCommand({ swap, saveJSON: keepJSON }))

  if (!picture) {
    return (
      <div class="work work-empty">
        <h1 class="sr">Compare</h1>
        <Invite />
      </div>
    )
  }
  const waiting = waitingNote(answer)
  const count = (k: Kind | 'all') => (k === 'all' ? shown.length : shown.filter((p) => p.kind === k).length)
  const all = value ? [...value.a.detections, ...value.b.detections] : []
  const source = picture.source.value
  const size = source ? picture : { width: value?.width ?? 0, height: value?.height ?? 0 }
  const side = (s: 'a' | 'b', name: string) => {
    const marks = sideMarks(shown, s, only.value)
    return (
      <figure class="side">
        <figcaption>
          <span class={`badge badge-${s}`}>{s.toUpperCase()}</span>
          <b>{name}</b>
          {value && <span class="hint">{shown.filter((p) => passes(p[s])).length} found, {count(s)} only here</span>}
        </figcaption>
        <Stage
          source={source} size={size} marks={marks} view={view} active={active} tools={s === 'b'}
          description={waiting ? `${picture.name}: looking` : `${picture.name} as ${name} sees it: ${marks.filter((m) => m.weight !== 'ghost').length} boxes, ${count(s)} of them only here`}
        >
          {waiting && <div class="stage-note" role={s === 'a' ? 'status' : undefined}><span class="spinner" />{waiting}</div>}
          {s === 'a' && answer?.state === 'failed' && <div class="stage-cover"><Failure error={answer.error} onRetry={() => retry(picture)} /></div>}
        </Stage>
      </figure>
    )
  }
  return (
    <div class="work">
      <h1 class="sr">Compare</h1>
      <section class="work-stage" aria-label="Pictures">
        <div class="sides">
          {side('a', a)}
          {side('b', b)}
        </div>
        {picture.credit && <p class="credit">{picture.credit}</p>}
        <Filmstrip />
      </section>
      <aside class="panel" aria-label="Settings and differences">
        <div class="panel-scroll">
          <div class="versus">
            <ModelSelect id="model-a" label="Model" badge="a" value={a} onChange={(m) => setSides(m, b)} />
            <button type="button" class="tool swap" aria-label="Swap the models" title="Swap (X)" onClick={swap}><Icon name="swap" /></button>
            <ModelSelect id="model-b" label="Model" badge="b" value={b} onChange={(m) => setSides(a, m)} />
          </div>
          {models.value.length === 1 && <p class="note">This server has one model. Start it with <code>--model</code> twice to compare two.</p>}
          <ScoreSlider scores={all.map((d) => d.score)} />
          <ClassFilter all={all} />
          <fieldset class="segments">
            <legend class="sr">Which to show</legend>
            {kinds.map(([k, text]) => (
              <label key={k} class={`segment segment-${k}`}>
                <input type="radio" name="kind" checked={only.value === k} onChange={() => (only.value = k)} />
                <span>{text} <b>{count(k)}</b></span>
              </label>
            ))}
          </fieldset>
          {value && <Differences pairs={shown.filter((p) => only.value === 'all' || p.kind === only.value)} active={active} />}
        </div>
        <div class="panel-foot">
          {value && <p class="hint timing"><span class="badge badge-a">A</span> <Total ms={value.a.ms} /> <span class="badge badge-b">B</span> <Total ms={value.b.ms} /></p>}
          <div class="button-row">
            <Button icon="save" disabled={!value} title="Save JSON (S)" onClick={() => keepJSON()}>JSON</Button>
          </div>
        </div>
      </aside>
    </div>
  )
}

const Total = (p: { ms: Record<string, number> }) => <span>{p.ms.total === undefined ? '' : `${p.ms.total.toFixed(0)} ms`}</span>

const kindText: Record<Kind, string> = { both: 'both', a: 'only A', b: 'only B' }

function Differences(p: { pairs: Pair[]; active: { value: number | null } }) {
  if (p.pairs.length === 0) return <p class="empty-list">Nothing to show here.</p>
  const score = (d: Detection | null) => (d ? <span class={passes(d) ? '' : 'below'}>{percent(d.score)}</span> : <span class="below">—</span>)
  return (
    <table class="differences">
      <caption class="sr">Objects and how each model scores them; a score below the least score is dimmed</caption>
      <thead>
        <tr><th scope="col">object</th><th scope="col">seen by</th><th scope="col">A</th><th scope="col">B</th></tr>
      </thead>
      <tbody>
        {p.pairs.map((q) => {
          const point = () => (p.active.value = q.id)
          const leave = () => (p.active.value = null)
          return (
            <tr key={q.id} data-active={p.active.value === q.id} onMouseEnter={point} onMouseLeave={leave}>
              <th scope="row">
                <button type="button" class="link" onFocus={point} onBlur={leave} onClick={point}>{(q.a ?? q.b)!.class}</button>
              </th>
              <td><Swatch colour={sideColours[q.kind]} /> {kindText[q.kind]}</td>
              <td>{score(q.a)}</td>
              <td>{score(q.b)}</td>
            </tr>
          )
        })}
      </tbody>
    </table>
  )
}

