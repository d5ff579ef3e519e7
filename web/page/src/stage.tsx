// A picture (or the camera) with boxes on a canvas: zoom, pan, and a box that
// is pointed at.

import { useSignal, type Signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import { drawMarks, type Mark } from './draw'
import { Icon } from './icons'
import { showLabels } from './state'
import { hit, panned, place, whole, zoomed, type Size, type View } from './view'

export interface StageProps {
  source: CanvasImageSource | null
  size: Size
  marks: Mark[]
  view: Signal<View>
  active: Signal<number | null>
  /** What the picture shows, for those who do not see it. */
  description: string
  /** Changes when source has new content, as a camera has. */
  tick?: number
  onPick?: (id: number) => void
  /** Whether to show the buttons; of two stages with one view, one has them. */
  tools?: boolean
  children?: ComponentChildren
}

export function Stage(p: StageProps) {
  const frame = useRef<HTMLDivElement>(null)
  const canvas = useRef<HTMLCanvasElement>(null)
  const room = useSignal<Size>({ width: 0, height: 0 })
  // Handlers are bound once and read the latest values here.
  const now = useRef(p)
  now.current = p

  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => {
      const { width, height } = entry!.contentRect
      room.value = { width, height }
    })
    watch.observe(frame.current!)
    return () => watch.disconnect()
  }, [])

  const { view, active } = p
  const labels = showLabels.value
  useEffect(() => {
    const c = canvas.current!
    const { width, height } = room.value
    if (!width || !height) return
    const dpr = Math.min(devicePixelRatio || 1, 3)
    if (c.width !== Math.round(width * dpr)) c.width = Math.round(width * dpr)
    if (c.height !== Math.round(height * dpr)) c.height = Math.round(height * dpr)
    const ctx = c.getContext('2d')!
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0)
    ctx.clearRect(0, 0, width, height)
    if (!p.source || !p.size.width) return
    // A picture that was removed is closed before the view has let go of it; a closed one has no width.
    if (p.source instanceof ImageBitmap && p.source.width === 0) return
    const at = place(view.value, p.size, room.value)
    // Enlarged pixels stay pixels: what the network saw is no smoother.
    ctx.imageSmoothingEnabled = at.scale < 4
    ctx.drawImage(p.source, at.left, at.top, p.size.width * at.scale, p.size.height * at.scale)
    drawMarks(ctx, p.marks, at, room.value, { unit: 1, labels, active: active.value })
  }, [p.source, p.size.width, p.size.height, p.marks, p.tick, view.value, active.value, room.value, labels])

  const zoom = (factor: number, sx = room.value.width / 2, sy = room.value.height / 2) => {
    view.value = zoomed(view.value, factor, sx, sy, now.current.size, room.value)
  }

  useEffect(() => {
    const c = canvas.current!
    const pointers = new Map<number, { x: number; y: number }>()
    let moved = 0

    const at = (e: { clientX: number; clientY: number }) => {
      const r = c.getBoundingClientRect()
      return { x: e.clientX - r.left, y: e.clientY - r.top }
    }
    const under = (x: number, y: number, slack: number): number | null => {
      const { size, marks } = now.current
      const placed = place(view.value, size, room.value)
      const i = hit(marks.map((m) => m.box), (x - placed.left) / placed.scale, (y - placed.top) / placed.scale, slack / placed.scale)
      return marks[i]?.id ?? null
    }
    const down = (e: PointerEvent) => {
      c.setPointerCapture(e.pointerId)
      pointers.set(e.pointerId, at(e))
      moved = 0
    }
    const move = (e: PointerEvent) => {
      const to = at(e)
      const from = pointers.get(e.pointerId)
      if (!from) {
        if (e.pointerType === 'mouse') active.value = under(to.x, to.y, 3)
        return
      }
      moved += Math.hypot(to.x - from.x, to.y - from.y)
      const { size } = now.current
      if (pointers.size === 2) {
        const other = [...pointers].find(([id]) => id !== e.pointerId)![1]
        const before = Math.hypot(from.x - other.x, from.y - other.y)
        const after = Math.hypot(to.x - other.x, to.y - other.y)
        if (before > 0) zoom(after / before, (to.x + other.x) / 2, (to.y + other.y) / 2)
      }
      // Each of two fingers moves the middle between them by half its way.
      const share = 1 / pointers.size
      if (view.value.zoom > 1) view.value = panned(view.value, (to.x - from.x) * share, (to.y - from.y) * share, size, room.value)
      pointers.set(e.pointerId, to)
    }
    const up = (e: PointerEvent) => {
      const to = at(e)
      if (pointers.delete(e.pointerId) && e.type === 'pointerup' && moved < 6) {
        const id = under(to.x, to.y, e.pointerType === 'mouse' ? 3 : 12)
        active.value = id
        if (id !== null) now.current.onPick?.(id)
      }
    }
    const leave = (e: PointerEvent) => {
      if (e.pointerType === 'mouse') active.value = null
    }
    // Not passive: the page must not scroll while the picture zooms.
    const wheel = (e: WheelEvent) => {
      e.preventDefault()
      const { x, y } = at(e)
      const lines = e.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1
      zoom(Math.exp(-e.deltaY * lines * (e.ctrlKey ? 0.01 : 0.002)), x, y)
    }
    const double = (e: MouseEvent) => {
      const { x, y } = at(e)
      if (view.value.zoom > 1) view.value = whole
      else zoom(3, x, y)
    }
    c.addEventListener('pointerdown', down)
    c.addEventListener('pointermove', move)
    c.addEventListener('pointerup', up)
    c.addEventListener('pointercancel', up)
    c.addEventListener('pointerleave', leave)
    c.addEventListener('wheel', wheel, { passive: false })
    c.addEventListener('dblclick', double)
    return () => {
      c.removeEventListener('pointerdown', down)
      c.removeEventListener('pointermove', move)
      c.removeEventListener('pointerup', up)
      c.removeEventListener('pointercancel', up)
      c.removeEventListener('pointerleave', leave)
      c.removeEventListener('wheel', wheel)
      c.removeEventListener('dblclick', double)
    }
  }, [])

  const keys = (e: KeyboardEvent) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return
    const step = 60
    const pans: Record<string, [number, number]> = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }
    const pan = pans[e.key]
    if (pan && view.value.zoom > 1) view.value = panned(view.value, pan[0], pan[1], p.size, room.value)
    else if (e.key === '+' || e.key === '=') zoom(1.4)
    else if (e.key === '-') zoom(1 / 1.4)
    else if (e.key === '0') view.value = whole
    else return
    e.preventDefault()
    e.stopPropagation()
  }

  return (
    <div class="stage">
      <div
        class={view.value.zoom > 1 ? 'stage-frame pannable' : 'stage-frame'}
        ref={frame} tabIndex={0} role="group" aria-roledescription="zoomable picture"
        aria-label="Picture: plus and minus zoom, arrows move, 0 shows all" onKeyDown={keys}
      >
        <canvas ref={canvas} role="img" aria-label={p.description} />
      </div>
      {p.children}
      {p.tools !== false && p.source && <div class="stage-tools" role="group" aria-label="View">
        <button type="button" class="tool" aria-pressed={labels} aria-label="Labels" title="Labels (L)" onClick={() => (showLabels.value = !showLabels.value)}>
          <Icon name="tag" />
        </button>
        <span class="tool-rule" />
        <button type="button" class="tool" aria-label="Zoom out" title="Zoom out (−)" disabled={view.value.zoom <= 1} onClick={() => zoom(1 / 1.4)}>
          <Icon name="minus" />
        </button>
        <button type="button" class="tool tool-text" aria-label={`${Math.round(view.value.zoom * 100)} %: show all`} title="Show all (0)" onClick={() => (view.value = whole)}>
          {Math.round(view.value.zoom * 100)} %
        </button>
        <button type="button" class="tool" aria-label="Zoom in" title="Zoom in (+)" onClick={() => zoom(1.4)}>
          <Icon name="plus" />
        </button>
      </div>}
    </div>
  )
}
