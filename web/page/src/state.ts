// What the views share: where the page is, the models, and the settings that
// outlive a visit.

import { effect, signal, computed } from '@preact/signals'
import { call, type Model } from './api'

export const views = ['detect', 'compare', 'live', 'gain', 'jobs'] as const
export type ViewName = (typeof views)[number]

function viewOfAddress(): ViewName {
  const name = location.hash.slice(1) as ViewName
  return views.includes(name) ? name : 'detect'
}

export const view = signal<ViewName>(viewOfAddress())
addEventListener('hashchange', () => (view.value = viewOfAddress()))

export function go(to: ViewName) {
  location.hash = to
}

/** Kept in localStorage; a browser that forbids it loses nothing else. */
function remembered<T>(name: string, first: T, valid: (v: unknown) => boolean) {
  let value = first
  try {
    const kept = JSON.parse(localStorage.getItem(`resdet.${name}`) ?? 'null')
    if (valid(kept)) value = kept
  } catch {
    // Nothing was kept, or nothing readable.
  }
  const s = signal(value)
  effect(() => {
    try {
      localStorage.setItem(`resdet.${name}`, JSON.stringify(s.value))
    } catch {
      // Private windows of some browsers.
    }
  })
  return s
}

export type Theme = 'system' | 'light' | 'dark'
export const themes: Theme[] = ['system', 'light', 'dark']
export const theme = remembered<Theme>('theme', 'system', (v) => themes.includes(v as Theme))
effect(() => {
  document.documentElement.dataset.theme = theme.value
})

/** Detections below it are not shown. */
export const leastScore = remembered<number>('score', 0.5, (v) => typeof v === 'number' && v >= scoreFloor && v <= scoreTop)
/** Letters as shortcuts get in the way of speech control: they can be turned off. */
export const letterKeys = remembered<boolean>('letterKeys', true, (v) => typeof v === 'boolean')
export const showLabels = remembered<boolean>('labels', true, (v) => typeof v === 'boolean')

/** Requests ask for everything from here up, so that the slider needs no other. */
export const scoreFloor = 0.05
export const scoreTop = 0.99

export function setLeastScore(v: number) {
  leastScore.value = Math.round(Math.min(Math.max(v, scoreFloor), scoreTop) * 100) / 100
}

/** Classes that are switched off. */
export const hiddenClasses = signal<ReadonlySet<string>>(new Set())

export function toggleClass(name: string) {
  const next = new Set(hiddenClasses.value)
  if (!next.delete(name)) next.add(name)
  hiddenClasses.value = next
}

export const models = signal<Model[]>([])
export const modelsError = signal<Error | null>(null)

const wanted = { detect: signal(''), a: signal(''), b: signal('') }

const fallback = computed(() => models.value.find((m) => m.default) ?? models.value[0])
const known = (name: string) => models.value.some((m) => m.name === name)

/** The model of the detect, live and jobs views. */
export const model = computed(() => (known(wanted.detect.value) ? wanted.detect.value : (fallback.value?.name ?? '')))
/** The sides of a comparison: at first the default and the one after it. */
export const modelA = computed(() => (known(wanted.a.value) ? wanted.a.value : (fallback.value?.name ?? '')))
export const modelB = computed(() =>
  known(wanted.b.value) ? wanted.b.value : (models.value.find((m) => m.name !== modelA.value)?.name ?? modelA.value),
)

export const setModel = (name: string) => (wanted.detect.value = name)

export function setSides(a: string, b: string) {
  wanted.a.value = a
  wanted.b.value = b
}

export async function loadModels() {
  try {
    const r = await call('v1/models')
    models.value = (await r.json()).models
    modelsError.value = null
  } catch (err) {
    modelsError.value = err as Error
  }
}

/** What a screen reader is told of, politely. */
export const spoken = signal('')

export interface Notice {
  id: number
  text: string
  detail: string
}

/** What went wrong outside of any picture; shown until dismissed. */
export const notices = signal<Notice[]>([])
let nextNotice = 0

export function notify(err: unknown, about = '') {
  const e = err as Error & { code?: string; requestID?: string }
  const text = about ? `${about}: ${e.message}` : e.message
  const detail = [e.code, e.requestID && `request ${e.requestID}`].filter(Boolean).join(', ')
  notices.value = [...notices.value.filter((n) => n.text !== text).slice(-3), { id: nextNotice++, text, detail }]
}

export function dismiss(id: number) {
  notices.value = notices.value.filter((n) => n.id !== id)
}
