// The transfer gain: reports of resdet eval and resdet compare as a headline, a
// table with bars, and curves, with the paper's own figures beside them.

import { computed, signal, useSignal } from '@preact/signals'
import { useMemo } from 'preact/hooks'
import { Button, FileButton } from './controls'
import { Curves } from './curves'
import { GainTable } from './gaintable'
import { Icon } from './icons'
import { gainBetween, mainMetric, mismatch, paperRows, parseReport, type CompareReport, type EvalReport, type PaperRow, type Report } from './reports'
import { notify, spoken } from './state'

const reports = signal<Report[]>([])
const chosen = signal('')

export async function addReports(files: Iterable<File>) {
  for (const file of files) {
    try {
      const r = parseReport(file.name, await file.text())
      reports.value = [...reports.value.filter((o) => o.name !== r.name), r]
      spoken.value = `${r.name} loaded`
      if (r.kind === 'compare') chosen.value = r.name
    } catch (err) {
      notify(err)
    }
  }
}

const evals = computed(() => reports.value.filter((r): r is EvalReport => r.kind === 'eval'))
const compares = computed(() => reports.value.filter((r): r is CompareReport => r.kind === 'compare'))

export const points = (v: number | null) => (v === null ? 'n/a' : `${v < 0 ? '−' : '+'}${Math.abs(100 * v).toFixed(1)}`)
export const figure = (v: number | null) => (v === null ? 'n/a' : (100 * v).toFixed(1))
const relative = (v: number | null) => (v === null ? 'n/a' : `${v < 0 ? '−' : '+'}${Math.abs(100 * v).toFixed(0)} %`)

export function Gain() {
  const flipped = useSignal(false)
  const list = reports.value
  const [first, second] = flipped.value ? [evals.value[1], evals.value[0]] : evals.value
  const problem = first && second ? mismatch(first, second) : ''
  const shown = useMemo<CompareReport | null>(() => {
    const picked = compares.value.find((c) => c.name === chosen.value) ?? compares.value[0]
    return picked ?? (first && second && !problem ? gainBetween(first, second) : null)
  }, [list, chosen.value, first, second, problem])

  return (
    <div class="page">
      <div class="page-head">
        <div>
          <h1>Transfer gain</h1>
          <p class="lede">What another backbone brings, on the same data.</p>
        </div>
        <FileButton id="load-reports" icon="file" kind="main" accept=".json,application/json" multiple onFiles={addReports}>Load reports</FileButton>
      </div>
      {list.length === 0 ? <NoReports /> : (
        <>
          <ul class="loaded" aria-label="Loaded reports">
            {list.map((r) => (
              <li key={r.name}>
                <span class="badge">{r.kind}</span> {r.name}
                <button type="button" class="tool small" aria-label={`Remove ${r.name}`} onClick={() => (reports.value = list.filter((o) => o !== r))}><Icon name="close" /></button>
              </li>
            ))}
          </ul>
          {compares.value.length > 1 && (
            <div class="field narrow">
              <label for="which">Comparison</label>
              <select id="which" value={shown?.name} onChange={(e) => (chosen.value = e.currentTarget.value)}>
                {compares.value.map((c) => <option key={c.name}>{c.name}</option>)}
              </select>
            </div>
          )}
          {shown && <Headline report={shown} onSwap={compares.value.length === 0 ? () => (flipped.value = !flipped.value) : undefined} />}
          {problem && !shown && <p class="note">The two evaluations cannot be compared: {problem}.</p>}
          {shown && (
            <section class="card" aria-labelledby="by-class">
              <h2 id="by-class">Gain by class and size</h2>
              <p class="hint">Points of {shown.metric}{shown.all.ci95 ? '; the line is the 95 % interval of the gain' : ''}. A bar to the right is a gain.</p>
              <GainTable report={shown} />
            </section>
          )}
          {shown?.costs && <Costs report={shown} />}
          {evals.value.length > 0 && <div class="columns">{evals.value.map((e) => <Evaluation key={e.name} report={e} />)}</div>}
          {evals.value.some((e) => e.curves.length > 0) && <Curves reports={evals.value} />}
        </>
      )}
    </div>
  )
}

function NoReports() {
  return (
    <div class="columns">
      <div class="card invite flat">
        <div class="invite-mark"><Icon name="gain" /></div>
        <h2>Drop reports here</h2>
        <p>One of <code>compare</code>, or one or two of <code>eval</code>:</p>
        <pre class="code" tabIndex={0} aria-label="Commands that write reports">{`resdet compare --data voc:photos --json \\
  --baseline vgg16.safetensors \\
  --candidate resnet101.safetensors > gain.json
resdet eval --data voc:photos --json > eval.json`}</pre>
      </div>
      <PaperCard rows={paperRows} />
    </div>
  )
}

function Headline({ report: r, onSwap }: { report: CompareReport; onSwap?: () => void }) {
  const { all } = r
  const verdict = !all.ci95 ? ''
    : all.ci95[0] > 0 ? 'The interval lies above 0: the candidate is better on images like these.'
    : all.ci95[1] < 0 ? 'The interval lies below 0: the candidate is worse on images like these.'
    : 'The interval holds 0: these images do not tell which is better.'
  return (
    <div class="columns">
      <section class="card headline" aria-labelledby="headline">
        <h2 id="headline">{r.metric} on {r.images} images</h2>
        <p class={`big ${all.gain !== null && all.gain < 0 ? 'worse' : ''}`}>
          {points(all.gain)} <small>points</small> <span class="big-side">{relative(all.relative)} <small>relative</small></span>
        </p>
        <Pair baseline={all.baseline} candidate={all.candidate} names={r.from} />
        {all.ci95 && <p class="hint">95 % interval of the gain: {points(all.ci95[0])} to {points(all.ci95[1])} points. {verdict}</p>}
        {!all.ci95 && <p class="hint">Without an interval: <code>resdet compare</code> computes it from the images.</p>}
        {onSwap && <Button icon="swap" onClick={onSwap}>Swap</Button>}
      </section>
      <PaperCard rows={r.paper} />
    </div>
  )
}

/** Two bars on the scale from 0 to 100. */
function Pair(p: { baseline: number | null; candidate: number | null; names: [string, string] }) {
  const bar = (v: number | null, side: 'a' | 'b', name: string) => (
    <div class="pair-row">
      <span class="pair-name" title={name}>{name.replace(/^.*\//, '').replace(/\.(safetensors|json)$/, '')}</span>
      <svg class="pair-bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
        <rect class="track" width="100" height="10" />
        <rect class={`side-${side}`} width={100 * (v ?? 0)} height="10" />
      </svg>
      <b>{figure(v)}</b>
    </div>
  )
  return <div class="pair">{bar(p.baseline, 'a', p.names[0])}{bar(p.candidate, 'b', p.names[1])}</div>
}

function PaperCard(p: { rows: PaperRow[] }) {
  return (
    <section class="card paper" aria-labelledby="paper">
      <h2 id="paper">The paper’s reference</h2>
      <p class="hint">He et al. 2015, tables 7 and 8: Faster R-CNN, VGG-16 → ResNet-101. Their figures on their data, not measured here.</p>
      <div class="scroll" tabIndex={0} role="group" aria-label="The paper’s figures">
        <table class="figures">
          <thead><tr><th scope="col">data</th><th scope="col">VGG-16</th><th scope="col">ResNet-101</th><th scope="col">gain</th><th scope="col">relative</th></tr></thead>
          <tbody>
            {p.rows.map((r) => (
              <tr key={r.dataset + r.metric}>
                <th scope="row">{r.dataset.replace(/, trained.*/, '')} <span class="hint">{r.metric}</span></th>
                <td>{figure(r.baseline)}</td><td>{figure(r.candidate)}</td><td class="good">{points(r.gain)}</td><td>{relative(r.gain_relative)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  )
}

function Costs({ report: r }: { report: CompareReport }) {
  return (
    <section class="card" aria-labelledby="costs">
      <h2 id="costs">What each costs</h2>
      <div class="scroll" tabIndex={0} role="group" aria-labelledby="costs">
        <table class="figures">
          <thead><tr><th scope="col">model</th><th scope="col">parameters</th><th scope="col">GMAC</th><th scope="col">ms per image</th><th scope="col">peak MB</th></tr></thead>
          <tbody>
            {r.costs!.map((c, i) => (
              <tr key={i}>
                <th scope="row">{c ? c.arch : r.from[i]}</th>
                {c ? <><td>{(c.parameters / 1e6).toFixed(1)} M</td><td>{c.gmac.toFixed(1)}</td><td>{c.ms.toFixed(0)}</td><td>{c.peakMB.toFixed(0)}</td></>
                  : <td colSpan={4}>read from a results file</td>}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  )
}

/** What TIDE's names mean. */
const causeText: Record<string, string> = { Cls: 'wrong class', Loc: 'poor box', Both: 'both', Dupe: 'duplicate', Bkg: 'background', Miss: 'missed' }

function Evaluation({ report: r }: { report: EvalReport }) {
  const main = mainMetric(r)
  const losses = r.causes.filter((c) => c.cost !== null)
  const most = Math.max(0.01, ...losses.map((c) => c.cost!))
  const id = `eval-${r.name}`
  return (
    <section class="card" aria-labelledby={id}>
      <h2 id={id}>{r.name}</h2>
      <p class="hint from">{[r.detections, r.data, `${r.images} images`, r.protocol].filter(Boolean).join(' · ')}</p>
      <dl class="tiles">
        {Object.entries(r.metrics).filter(([k]) => k === main || /^AP/.test(k) || k === 'AR100').map(([k, v]) => (
          <div key={k} class={k === main ? 'tile first' : 'tile'}><dt>{k}</dt><dd>{figure(v)}</dd></div>
        ))}
      </dl>
      {losses.length > 0 && (
        <>
          <h3 class="label">Lost AP50, by cause</h3>
          <table class="losses">
            <tbody>
              {losses.map((c) => (
                <tr key={c.name}>
                  <th scope="row" title={`${c.name}: ${c.description}`}>{causeText[c.name] ?? c.name}</th>
                  <td class="loss-bar">
                    <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width={Math.max(0.5, (100 * Math.max(0, c.cost!)) / most)} height="8" rx="1" /></svg>
                  </td>
                  <td>{figure(c.cost)}</td>
                  <td class="loss-what">{c.description}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
    </section>
  )
}

