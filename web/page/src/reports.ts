// The JSON of resdet eval and resdet compare, read with care: a file that a
// user drops may be anything.

export interface PrecisionCurve {
  class: string
  iou: number
  /** At recall 0, 0.01 … 1: the highest precision at this recall or beyond. */
  precision: number[]
}

export interface EvalReport {
  kind: 'eval'
  name: string
  protocol: string
  images: number
  data: string
  detections: string
  metrics: Record<string, number | null>
  perClass: { class: string; AP: number | null; objects: number }[]
  perSize: { size: string; AP: number | null; objects: number }[]
  causes: { name: string; description: string; count: number; cost: number | null }[]
  curves: PrecisionCurve[]
}

export interface Gain {
  name: string
  baseline: number | null
  candidate: number | null
  gain: number | null
  relative: number | null
  ci95: [number, number] | null
  objects: number
}

export interface PaperRow {
  dataset: string
  metric: string
  baseline: number
  candidate: number
  gain: number
  gain_relative: number
}

export interface Cost {
  arch: string
  parameters: number
  gmac: number
  ms: number
  peakMB: number
}

export interface CompareReport {
  kind: 'compare'
  name: string
  metric: string
  protocol: string
  images: number
  data: string
  from: [baseline: string, candidate: string]
  all: Gain
  perClass: Gain[]
  perSize: Gain[]
  costs: [Cost | null, Cost | null] | null
  paper: PaperRow[]
}

export type Report = EvalReport | CompareReport

/** He et al. 2015, tables 7 and 8: for reports that do not carry the paper's rows. */
export const paperRows: PaperRow[] = [
  { dataset: 'COCO val', metric: 'AP', baseline: 0.212, candidate: 0.272, gain: 0.06, gain_relative: 0.06 / 0.212 },
  { dataset: 'COCO val', metric: 'AP50', baseline: 0.415, candidate: 0.484, gain: 0.069, gain_relative: 0.069 / 0.415 },
  { dataset: 'VOC 2007 test', metric: 'mAP', baseline: 0.732, candidate: 0.764, gain: 0.032, gain_relative: 0.032 / 0.732 },
]

// Values of unknown shape: every one goes through number, text or rows.
type Loose = Record<string, any>

const number = (v: unknown): number | null => (typeof v === 'number' && Number.isFinite(v) ? v : null)
const text = (v: unknown): string => (typeof v === 'string' ? v : '')
const rows = (v: unknown): Loose[] => (Array.isArray(v) ? v.filter((r) => r && typeof r === 'object') : [])

export function parseReport(name: string, content: string): Report {
  let v: Loose
  try {
    v = JSON.parse(content)
  } catch {
    throw new Error(`${name} is not JSON; resdet eval and resdet compare write it with --json`)
  }
  if (v && typeof v === 'object' && 'metrics' in v && 'per_class' in v) return evalReport(name, v)
  if (v && typeof v === 'object' && 'baseline' in v && 'candidate' in v) return compareReport(name, v)
  throw new Error(`${name} is JSON, but no report: resdet eval --json and resdet compare --json write those`)
}

function evalReport(name: string, v: Loose): EvalReport {
  const metrics: Record<string, number | null> = {}
  for (const [k, m] of Object.entries(v.metrics ?? {})) metrics[k] = number(m)
  const settings = v.settings ?? {}
  return {
    kind: 'eval', name, protocol: text(v.protocol), images: number(v.images) ?? 0,
    data: text(settings.data), detections: text(settings.detections), metrics,
    perClass: rows(v.per_class).map((r) => ({ class: text(r.class), AP: number(r.AP), objects: number(r.objects) ?? 0 })),
    perSize: rows(v.per_size).map((r) => ({ size: text(r.size), AP: number(r.AP), objects: number(r.objects) ?? 0 })),
    causes: rows(v.causes?.errors).map((r) => ({ name: text(r.name), description: text(r.description), count: number(r.count) ?? 0, cost: number(r.delta_ap) })),
    curves: rows(v.curves).flatMap((r) => {
      const precision = Array.isArray(r.precision) ? (r.precision as unknown[]).map((p) => number(p) ?? 0) : []
      return precision.length > 1 ? [{ class: text(r.class), iou: number(r.iou) ?? 0.5, precision }] : []
    }),
  }
}

function gainOf(r: Loose, name: string): Gain {
  const ci = Array.isArray(r.ci95) ? (r.ci95 as unknown[]).map(number) : []
  return {
    name, baseline: number(r.baseline), candidate: number(r.candidate), gain: number(r.gain), relative: number(r.gain_relative),
    ci95: ci[0] != null && ci[1] != null ? [ci[0], ci[1]] : null, objects: number(r.objects) ?? 0,
  }
}

function costOf(r: Loose | undefined): Cost | null {
  if (!r || typeof r !== 'object') return null
  return { arch: text(r.arch), parameters: number(r.parameters) ?? 0, gmac: number(r.gmac) ?? 0, ms: number(r.ms_per_image) ?? 0, peakMB: number(r.peak_memory_mb) ?? 0 }
}

function compareReport(name: string, v: Loose): CompareReport {
  const paper = rows(v.paper?.rows).map((r) => ({
    dataset: text(r.dataset), metric: text(r.metric), baseline: number(r.baseline) ?? 0, candidate: number(r.candidate) ?? 0,
    gain: number(r.gain) ?? 0, gain_relative: number(r.gain_relative) ?? 0,
  }))
  return {
    kind: 'compare', name, metric: text(v.metric) || 'AP', protocol: text(v.protocol), images: number(v.images) ?? 0, data: text(v.data),
    from: [text(v.baseline_from) || 'baseline', text(v.candidate_from) || 'candidate'],
    all: gainOf(v, 'all'),
    perClass: rows(v.per_class).map((r) => gainOf(r, text(r.class))),
    perSize: rows(v.per_size).map((r) => gainOf(r, text(r.size))),
    costs: v.cost && typeof v.cost === 'object' ? [costOf(v.cost.baseline), costOf(v.cost.candidate)] : null,
    paper: paper.length > 0 ? paper : paperRows,
  }
}

/** The first figure of a report: AP, or mAP under VOC's protocols. */
export const mainMetric = (r: EvalReport): string => Object.keys(r.metrics)[0] ?? 'AP'

/** What two evaluations of the same data say of the gain; without an interval, which needs the images. */
export function gainBetween(a: EvalReport, b: EvalReport): CompareReport {
  const gain = (name: string, x: number | null, y: number | null, objects: number): Gain => ({
    name, baseline: x, candidate: y, gain: x !== null && y !== null ? y - x : null,
    relative: x !== null && y !== null && x > 0 ? (y - x) / x : null, ci95: null, objects,
  })
  const metric = mainMetric(a)
  const classOf = new Map(b.perClass.map((c) => [c.class, c]))
  const sizeOf = new Map(b.perSize.map((s) => [s.size, s]))
  const objects = a.perClass.reduce((n, c) => n + c.objects, 0)
  return {
    kind: 'compare', name: `${a.name} → ${b.name}`, metric, protocol: a.protocol, images: a.images, data: a.data,
    from: [a.detections || a.name, b.detections || b.name],
    all: gain('all', a.metrics[metric] ?? null, b.metrics[metric] ?? null, objects),
    perClass: a.perClass.map((c) => gain(c.class, c.AP, classOf.get(c.class)?.AP ?? null, c.objects)),
    perSize: a.perSize.map((s) => gain(s.size, s.AP, sizeOf.get(s.size)?.AP ?? null, s.objects)),
    costs: null, paper: paperRows,
  }
}

/** Why two evaluations cannot be held against each other; empty if they can. */
export function mismatch(a: EvalReport, b: EvalReport): string {
  if (a.protocol !== b.protocol) return `${a.name} is scored by ${a.protocol}, ${b.name} by ${b.protocol}`
  if (a.images !== b.images) return `${a.name} has ${a.images} images, ${b.name} ${b.images}`
  const objects = (r: EvalReport) => r.perClass.map((c) => `${c.class} ${c.objects}`).join()
  if (objects(a) !== objects(b)) return 'they were scored against different objects'
  return ''
}
