// The server's API as the page sees it: the values on the wire, requests with
// the access key, and the two kinds of streams. Headers carry the key, never
// an address: EventSource and <img> cannot set headers, so streams are read
// from fetch.

import { signal } from '@preact/signals'

/** x0, y0, x1, y1 in pixels of the upright picture; the right and lower ends are outside. */
export type Box = [number, number, number, number]

export interface Detection {
  class: string
  class_id: number
  score: number
  box: Box
}

/** Milliseconds per stage, as the server names them. */
export type Millis = Record<string, number>

export interface Detected {
  image: string
  width: number
  height: number
  model: string
  detections: Detection[]
  ms: Millis
}

export interface Side {
  model: string
  detections: Detection[]
  ms: Millis
}

export interface Compared {
  image: string
  width: number
  height: number
  a: Side
  b: Side
  /** Indices into a's and b's detections, and their overlap (IoU). */
  matches: { a: number; b: number; overlap: number }[]
}

export interface Model {
  name: string
  arch: string
  classes: { id: number; name: string }[]
  input: { short_side: number; long_side: number; multiple: number }
  precision: string
  scores: Record<string, number> | null
  default: boolean
}

export type JobState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled'

export interface Job {
  id: string
  kind: string
  state: JobState
  name: string
  model: string
  created: string
  started: string | null
  finished: string | null
  /** total 0: not known. failed: pictures that could not be read, of those done. */
  progress: { done: number; total: number; fraction: number; eta_s: number | null; failed: number }
  error?: { code: string; message: string }
  links: { self: string; results?: string; annotated?: string; events?: string; stream?: string }
  training?: Training
}

export interface Loss {
  step: number
  total: number
  classifier: number
  box: number
  objectness: number
  rpn_box: number
}

export interface Training {
  /** The new model's name; it is served once the job is done. */
  model: string
  phase?: 'unpacking' | 'checking' | 'training'
  /** Curves; lists of jobs are without them. */
  losses?: Loss[]
  scores?: { step: number; value: number }[]
}

/** An answer that is not 2xx, in the server's own words. */
export class ServerError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestID: string,
    /** Seconds after which the server asks to try again; 0: it does not. */
    readonly retryAfter: number,
  ) {
    super(message)
  }
}

const keyName = 'resdet.key'

/** The access key; kept for this tab only. */
export const accessKey = signal(sessionStorage.getItem(keyName) ?? '')

/** Set while the page asks for a key; the dialog answers by calling it. */
export const keyWanted = signal<((key: string | null) => void) | null>(null)

/** Whether it asks because the key that it has was refused. */
export const keyRefused = signal(false)

let asking: Promise<boolean> | null = null

/** Asks for a key once, however many requests were refused at the same time. */
function askForKey(): Promise<boolean> {
  asking ??= new Promise<boolean>((resolve) => {
    keyRefused.value = accessKey.value !== ''
    keyWanted.value = function answer(key) {
      if (keyWanted.value !== answer) return // it is answered already
      keyWanted.value = null
      asking = null
      if (key !== null) {
        accessKey.value = key
        sessionStorage.setItem(keyName, key)
      }
      resolve(key !== null)
    }
  })
  return asking
}

async function serverError(r: Response): Promise<ServerError> {
  let code = `http_${r.status}`
  let message = `The server answered ${r.status} ${r.statusText}`.trim()
  let id = r.headers.get('X-Request-Id') ?? ''
  try {
    const { error } = await r.json()
    code = error.code ?? code
    message = error.message ?? message
    id = error.request_id ?? id
  } catch {
    // A proxy's page, not the server's JSON: the status has to do.
  }
  return new ServerError(r.status, code, message, id, Number(r.headers.get('Retry-After')) || 0)
}

/** One request; throws ServerError for any answer that is not 2xx. Asks for the key on 401 and tries again. */
export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  for (;;) {
    const key = accessKey.value
    const headers = new Headers(init.headers)
    if (key) headers.set('Authorization', `Bearer ${key}`)
    let r: Response
    try {
      r = await fetch(path, { ...init, headers })
    } catch (err) {
      if (init.signal?.aborted) throw err
      throw new ServerError(0, 'unreachable', 'The server does not answer.', '', 0)
    }
    if (r.ok) return r
    const err = await serverError(r)
    if (r.status !== 401) throw err
    // Another request may have got a new key while this one was on its way.
    if (key === accessKey.value && !(await askForKey())) throw err
  }
}

/** call, and again after Retry-After while the server is overloaded; waiting is told. */
export async function callPatiently(path: string, init: RequestInit, waiting: (seconds: number) => void): Promise<Response> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call(path, init)
    } catch (err) {
      if (!(err instanceof ServerError) || err.status !== 429 || attempt === 8) throw err
      const seconds = Math.min(Math.max(err.retryAfter, 1), 30)
      waiting(seconds)
      await pause(seconds * 1000, init.signal)
      waiting(0)
    }
  }
}

export function pause(ms: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    signal?.addEventListener('abort', () => {
      clearTimeout(timer)
      reject(signal.reason)
    })
  })
}

export function query(values: Record<string, string | number>): string {
  const q = new URLSearchParams()
  for (const [k, v] of Object.entries(values)) if (v !== '') q.set(k, String(v))
  return q.toString()
}

export function isAbort(err: unknown): boolean {
  return err instanceof DOMException && err.name === 'AbortError'
}

/** Server-sent events of an address, until it ends or signal aborts. */
export async function* events(path: string, signal: AbortSignal): AsyncGenerator<{ event: string; data: string }> {
  const r = await call(path, { signal, headers: { Accept: 'text/event-stream' } })
  let rest = ''
  for await (const text of r.body!.pipeThrough(new TextDecoderStream())) {
    rest += text
    const blocks = rest.split(/\r?\n\r?\n/)
    rest = blocks.pop()!
    for (const block of blocks) {
      let event = 'message'
      const data: string[] = []
      for (const line of block.split(/\r?\n/)) {
        if (line.startsWith('event:')) event = line.slice(6).trim()
        if (line.startsWith('data:')) data.push(line.slice(5).trimStart())
      }
      if (data.length > 0) yield { event, data: data.join('\n') }
    }
  }
}

/** The parts of a multipart/x-mixed-replace answer (MJPEG), each a JPEG. */
export async function* jpegs(path: string, signal: AbortSignal): AsyncGenerator<Blob> {
  const r = await call(path, { signal })
  let held = new Uint8Array(0)
  for await (const chunk of r.body!) {
    const joined = new Uint8Array(held.length + chunk.length)
    joined.set(held)
    joined.set(chunk, held.length)
    held = joined
    for (;;) {
      const head = find(held, [13, 10, 13, 10])
      if (head < 0) break
      const length = Number(/content-length:\s*(\d+)/i.exec(new TextDecoder().decode(held.subarray(0, head)))?.[1])
      if (!length) throw new Error('a part of the stream has no Content-Length')
      const end = head + 4 + length
      if (held.length < end) break
      yield new Blob([held.slice(head + 4, end)], { type: 'image/jpeg' })
      held = held.slice(end)
    }
  }
}

function find(bytes: Uint8Array, what: number[]): number {
  for (let i = 0; i + what.length <= bytes.length; i++) {
    if (what.every((b, j) => bytes[i + j] === b)) return i
  }
  return -1
}
