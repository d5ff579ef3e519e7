// What the page hands out as files.

import { call } from './api'
import { drawMarks, type Mark } from './draw'
import type { Picture } from './pictures'

function save(blob: Blob, name: string) {
  const a = document.createElement('a')
  a.href = URL.createObjectURL(blob)
  a.download = name
  a.click()
  // The browser reads the blob after this turn; a minute is ample.
  setTimeout(() => URL.revokeObjectURL(a.href), 60_000)
}

export function stem(name: string): string {
  return name.replace(/\.[^.]*$/, '') || 'picture'
}

export function saveJSON(value: unknown, name: string) {
  save(new Blob([JSON.stringify(value, null, 1) + '\n'], { type: 'application/json' }), name)
}

/** The picture in its own size with what is shown on it. */
export function savePicture(p: Picture, marks: Mark[], name: string) {
  const source = p.source.value
  if (!source) return
  const canvas = document.createElement('canvas')
  canvas.width = p.width
  canvas.height = p.height
  const ctx = canvas.getContext('2d')!
  ctx.drawImage(source, 0, 0, p.width, p.height)
  const unit = Math.max(1, Math.max(p.width, p.height) / 1000)
  drawMarks(ctx, marks, { scale: 1, left: 0, top: 0 }, canvas, { unit, labels: true, active: null })
  canvas.toBlob((blob) => blob && save(blob, name), 'image/jpeg', 0.92)
}

/** A file of the server under the name that it gives; by fetch, because a link cannot carry the key. */
export async function saveFrom(path: string, name: string) {
  const r = await call(path)
  const head = r.headers.get('Content-Disposition') ?? ''
  const encoded = /filename\*=utf-8''([^;]+)/i.exec(head)?.[1] // a name with letters beyond ASCII
  const plain = /filename="?([^";]+)"?/.exec(head)?.[1]
  save(await r.blob(), encoded ? decodeURIComponent(encoded) : (plain ?? name))
}
