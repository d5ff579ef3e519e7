// Where a picture lies on its canvas: zoom 1 shows the whole picture, and the
// point (x, y), in fractions of the picture, is in the middle. Being relative,
// one view serves two canvases of different sizes, which is how the sides of a
// comparison move together.

import type { Box } from './api'

export interface View {
  zoom: number
  x: number
  y: number
}

export interface Size {
  width: number
  height: number
}

export const whole: View = { zoom: 1, x: 0.5, y: 0.5 }

const mostZoom = 24

/** screen = picture · scale + (left, top), in CSS pixels. */
export interface Placed {
  scale: number
  left: number
  top: number
}

export function place(v: View, picture: Size, canvas: Size): Placed {
  const fit = Math.min(canvas.width / picture.width, canvas.height / picture.height)
  const scale = fit * v.zoom
  return {
    scale,
    left: canvas.width / 2 - v.x * picture.width * scale,
    top: canvas.height / 2 - v.y * picture.height * scale,
  }
}

/** Keeps the zoom in range and the middle of the canvas on the picture. */
function kept(v: View): View {
  const zoom = Math.min(Math.max(v.zoom, 1), mostZoom)
  if (zoom === 1) return whole
  const clamp = (p: number) => Math.min(Math.max(p, 0), 1)
  return { zoom, x: clamp(v.x), y: clamp(v.y) }
}

/** Zooms by factor, holding the picture's point under (sx, sy) where it is. */
export function zoomed(v: View, factor: number, sx: number, sy: number, picture: Size, canvas: Size): View {
  const before = place(v, picture, canvas)
  const px = (sx - before.left) / before.scale
  const py = (sy - before.top) / before.scale
  const zoom = Math.min(Math.max(v.zoom * factor, 1), mostZoom)
  const scale = (before.scale / v.zoom) * zoom
  return kept({
    zoom,
    x: (px - (sx - canvas.width / 2) / scale) / picture.width,
    y: (py - (sy - canvas.height / 2) / scale) / picture.height,
  })
}

/** Moves the picture by (dx, dy) CSS pixels. */
export function panned(v: View, dx: number, dy: number, picture: Size, canvas: Size): View {
  const { scale } = place(v, picture, canvas)
  return kept({ zoom: v.zoom, x: v.x - dx / scale / picture.width, y: v.y - dy / scale / picture.height })
}

/** The smallest of the boxes that hold the point, so that a small one on a large one can be reached; -1 if none does. */
export function hit(boxes: Box[], px: number, py: number, slack: number): number {
  let best = -1
  let area = Infinity
  boxes.forEach(([x0, y0, x1, y1], i) => {
    if (px < x0 - slack || px > x1 + slack || py < y0 - slack || py > y1 + slack) return
    const a = (x1 - x0) * (y1 - y0)
    if (a < area) {
      area = a
      best = i
    }
  })
  return best
}
