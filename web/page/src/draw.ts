// Boxes and labels on a 2-D context: for the canvas on the page, and for the
// picture that is saved.

import type { Box } from './api'
import { inkOn } from './palette'
import type { Placed, Size } from './view'

/** A box to be drawn. */
export interface Mark {
  /** Index of the detection. */
  id: number
  box: Box
  label: string
  colour: string
  /** strong: what differs; faint: what does not; ghost: what the other side of a comparison sees here. */
  weight: 'plain' | 'strong' | 'faint' | 'ghost'
}

export interface DrawOptions {
  /** CSS pixels of a thin line: 1 on the page, more on a large saved picture. */
  unit: number
  labels: boolean
  /** The id that is pointed at, if any: the others step back. */
  active: number | null
}

const width = { plain: 2.25, strong: 3, faint: 1.5, ghost: 1.5 }

const family = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'

interface Rect {
  left: number
  top: number
  width: number
  height: number
}

export function drawMarks(ctx: CanvasRenderingContext2D, marks: Mark[], at: Placed, canvas: Size, o: DrawOptions) {
  const isActive = (m: Mark) => m.id === o.active
  // What is pointed at comes last, above the others.
  const order = [...marks].sort((a, b) => Number(isActive(a)) - Number(isActive(b)))
  const screen = (m: Mark): Rect => ({
    left: at.left + m.box[0] * at.scale, top: at.top + m.box[1] * at.scale,
    width: (m.box[2] - m.box[0]) * at.scale, height: (m.box[3] - m.box[1]) * at.scale,
  })
  for (const m of order) {
    const r = screen(m)
    const active = isActive(m)
    const ghost = m.weight === 'ghost'
    if (active && !ghost) {
      ctx.fillStyle = m.colour
      ctx.globalAlpha = 0.14
      ctx.fillRect(r.left, r.top, r.width, r.height)
    }
    ctx.globalAlpha = o.active === null || active ? 1 : 0.35
    ctx.lineJoin = 'round'
    ctx.setLineDash(ghost ? [6 * o.unit, 5 * o.unit] : [])
    const wide = o.unit * (active ? 3.5 : width[m.weight])
    // A dark rim lets every hue stand out from every picture.
    ctx.strokeStyle = 'rgba(8, 10, 12, 0.55)'
    ctx.lineWidth = wide + 2 * o.unit
    ctx.strokeRect(r.left, r.top, r.width, r.height)
    ctx.strokeStyle = m.colour
    ctx.lineWidth = wide
    ctx.strokeRect(r.left, r.top, r.width, r.height)
  }
  ctx.setLineDash([])
  ctx.font = `600 ${12 * o.unit}px ${family}`
  ctx.textBaseline = 'middle'
  // What is pointed at chooses its place first, then the best detections.
  const taken: Rect[] = []
  for (const m of [...marks].sort((a, b) => Number(isActive(b)) - Number(isActive(a)))) {
    const active = isActive(m)
    if (active ? m.weight === 'ghost' : !o.labels || m.weight === 'faint' || m.weight === 'ghost') continue
    const spot = labelSpot(screen(m), ctx.measureText(m.label).width + 12 * o.unit, 19 * o.unit, canvas, taken)
    if (!spot && !active) continue // in a crowd the list has it
    ctx.globalAlpha = o.active === null || active ? 1 : 0.35
    drawLabel(ctx, m, spot ?? { ...screen(m), width: ctx.measureText(m.label).width + 12 * o.unit, height: 19 * o.unit }, o.unit)
    if (spot) taken.push(spot)
  }
  ctx.globalAlpha = 1
}

/** Where a label fits that covers no other: above its box, inside, below, or beside; null if nowhere. */
function labelSpot(box: Rect, width: number, height: number, canvas: Size, taken: Rect[]): Rect | null {
  const left = Math.max(0, Math.min(box.left - 1, canvas.width - width))
  const right = Math.max(0, Math.min(box.left + box.width - width + 1, canvas.width - width))
  const above = box.top - height - 1
  const inside = Math.max(0, box.top + 1)
  const below = box.top + box.height + 1
  const tries: [number, number][] = [[left, above], [left, inside], [left, below], [right, above], [right, inside], [right, below], [left, inside + height + 1]]
  for (const [x, y] of tries) {
    const free = taken.every((t) => x + width <= t.left || t.left + t.width <= x || y + height <= t.top || t.top + t.height <= y)
    if (free && y >= 0 && y + height <= canvas.height) return { left: x, top: y, width, height }
  }
  return null
}

function drawLabel(ctx: CanvasRenderingContext2D, m: Mark, at: Rect, unit: number) {
  ctx.fillStyle = m.colour
  ctx.beginPath()
  ctx.roundRect(at.left, at.top, at.width, at.height, 4 * unit)
  ctx.fill()
  ctx.fillStyle = inkOn(m.colour)
  ctx.fillText(m.label, at.left + 6 * unit, at.top + at.height / 2 + 0.5 * unit)
}
