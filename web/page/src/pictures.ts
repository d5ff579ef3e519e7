// The pictures on the page, and what the server says of them. Answers are kept
// per picture and model, so that going back and forth asks nothing twice. One
// request is under way at a time, the picture on show first: the network of the
// server is one.

import { batch, effect, signal, type Signal } from '@preact/signals'
import { callPatiently, isAbort, query, type Compared, type Detected } from './api'
import { leastScore, model, modelA, modelB, notify, scoreFloor, spoken, view } from './state'

export type Answer<T> =
  | { state: 'waiting'; note: string }
  | { state: 'failed'; error: Error }
  | { state: 'done'; value: T }

export interface Picture {
  id: number
  name: string
  file: Blob
  url: string
  /** Where it is from, if that must be told. */
  credit: string
  /** Decoded and upright; null while it is decoded, or if the browser cannot. */
  source: Signal<ImageBitmap | null>
  readable: Signal<boolean>
  width: number
  height: number
  detected: Signal<ReadonlyMap<string, Answer<Detected>>>
  compared: Signal<ReadonlyMap<string, Answer<Compared>>>
}

export const pictures = signal<Picture[]>([])
export const currentID = signal(-1)

export const current = () => pictures.value.find((p) => p.id === currentID.value)

const mostPictures = 200
let nextID = 0

/** What to say while there is no answer; empty when there is one. */
export function waitingNote(a: Answer<unknown> | undefined): string {
  if (a && a.state !== 'waiting') return ''
  return a?.note || 'Looking…'
}

/** Key of a comparison's answer. */
export const pairOf = (a: string, b: string) => `${a}\n${b}`

export function addPictures(files: Iterable<File>, credit = '') {
  const added: Picture[] = []
  for (const file of files) {
    if (pictures.value.length + added.length >= mostPictures) {
      notify(new Error(`The page holds ${mostPictures} pictures; a job takes an archive of any number.`))
      break
    }
    added.push({
      id: nextID++, name: file.name || 'pasted picture', file, url: URL.createObjectURL(file), credit,
      source: signal(null), readable: signal(true), width: 0, height: 0,
      detected: signal(new Map()), compared: signal(new Map()),
    })
  }
  if (added.length === 0) return
  batch(() => {
    pictures.value = [...pictures.value, ...added]
    currentID.value = added[0]!.id
  })
  for (const p of added) void decode(p)
}

async function decode(p: Picture) {
  try {
    const bitmap = await createImageBitmap(p.file)
    p.width = bitmap.width
    p.height = bitmap.height
    p.source.value = bitmap
  } catch {
    p.readable.value = false
  }
}

export function removePicture(id: number) {
  const all = pictures.value
  const at = all.findIndex((p) => p.id === id)
  const p = all[at]
  if (!p) return
  if (underWay?.picture === p) underWay.abort.abort()
  URL.revokeObjectURL(p.url)
  p.source.value?.close()
  const left = all.filter((q) => q !== p)
  batch(() => {
    pictures.value = left
    if (currentID.value === id) currentID.value = left[Math.min(at, left.length - 1)]?.id ?? -1
  })
}

export function stepPicture(by: number) {
  const all = pictures.value
  const at = all.findIndex((p) => p.id === currentID.value)
  const next = all[at + by]
  if (next) currentID.value = next.id
}

/** Asks again after a failure. */
export function retry(p: Picture) {
  p.detected.value = without(p.detected.value, model.value)
  p.compared.value = without(p.compared.value, pairOf(modelA.value, modelB.value))
}

function without<T>(m: ReadonlyMap<string, T>, key: string): ReadonlyMap<string, T> {
  const next = new Map(m)
  next.delete(key)
  return next
}

interface Task {
  picture: Picture
  key: string
  abort: AbortController
}

let underWay: Task | null = null

/** What the view on show lacks: the picture on show first, then the others. */
function nextTask(): { picture: Picture; key: string; comparing: boolean } | null {
  const comparing = view.value === 'compare'
  if (!comparing && view.value !== 'detect') return null
  const key = comparing ? pairOf(modelA.value, modelB.value) : model.value
  if (!model.value) return null
  const shown = current()
  const order = shown ? [shown, ...pictures.value.filter((p) => p !== shown)] : []
  for (const picture of order) {
    const answers = comparing ? picture.compared.value : picture.detected.value
    if (!answers.has(key) || answers.get(key)!.state === 'waiting') return { picture, key, comparing }
  }
  return null
}

// Runs whenever the list, the picture on show, the view or the models change.
// A request for what is not the most wanted any more is given up.
effect(() => {
  const task = nextTask()
  if (underWay && task && underWay.picture === task.picture && underWay.key === task.key) return
  if (underWay) {
    underWay.abort.abort()
    underWay = null
  }
  if (task) void (task.comparing ? ask(task.picture, task.key, 'compared') : ask(task.picture, task.key, 'detected'))
})

async function ask(picture: Picture, key: string, what: 'detected' | 'compared') {
  const task: Task = { picture, key, abort: new AbortController() }
  underWay = task
  const put = (a: Answer<never> | Answer<Detected & Compared>) => {
    const answers = picture[what] as Signal<ReadonlyMap<string, Answer<unknown>>>
    answers.value = new Map(answers.value).set(key, a)
  }
  // After this turn: an effect must not change what it has read.
  await null
  if (task.abort.signal.aborted) return
  put({ state: 'waiting', note: '' })
  try {
    const form = new FormData()
    form.append('image', picture.file, picture.name)
    const [a, b] = key.split('\n')
    const asked = { score: scoreFloor, max: 300 }
    const path = what === 'detected' ? `v1/detect?${query({ model: key, ...asked })}` : `v1/compare?${query({ a: a!, b: b!, ...asked })}`
    const init = { method: 'POST', body: form, signal: task.abort.signal }
    const r = await callPatiently(path, init, (s) => put({ state: 'waiting', note: s ? `The server is busy; trying again in ${s} s.` : '' }))
    const value = await r.json()
    if (underWay === task) underWay = null
    say(value, what)
    put({ state: 'done', value })
  } catch (err) {
    if (underWay === task) underWay = null
    if (isAbort(err)) {
      const answers = picture[what] as Signal<ReadonlyMap<string, Answer<unknown>>>
      answers.value = without(answers.value, key)
      return
    }
    put({ state: 'failed', error: err as Error })
  }
}

function say(value: Detected & Compared, what: 'detected' | 'compared') {
  const shown = (side: { detections: { score: number }[] }) => side.detections.filter((d) => d.score >= leastScore.value).length
  const count = (n: number) => (n === 1 ? '1 object' : `${n} objects`)
  spoken.value =
    what === 'detected'
      ? `${value.image}: ${count(shown(value))} found`
      : `${value.image}: ${value.a.model} finds ${count(shown(value.a))}, ${value.b.model} ${shown(value.b)}`
}

export async function addSample() {
  try {
    const r = await fetch('sample.jpg')
    const file = new File([await r.blob()], 'road.jpg', { type: 'image/jpeg' })
    addPictures([file], 'A frame of car-detection.mp4 from intel-iot-devkit/sample-videos, CC BY 4.0')
  } catch (err) {
    notify(err, 'The sample did not come')
  }
}
