// The camera: frames go to the server as JPEGs, boxes come back and are laid on
// the running picture. At most two frames are on their way, so that the delay
// never grows.

import { signal, useSignal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { accessKey, query, type Detection } from './api'
import { Button, DetectModel, ScoreSlider } from './controls'
import { ClassFilter, describe, DetectionList, marksOf, shownOf } from './detections'
import { Icon } from './icons'
import { Stage } from './stage'
import { hiddenClasses, leastScore, model, scoreFloor } from './state'
import { whole } from './view'

interface LiveAnswer {
  /** Which of the frames that were sent, from 1. */
  seq: number
  width: number
  height: number
  detections: Detection[]
  dropped: number
  error?: { code: string; message: string }
}

interface Figures {
  perSecond: number
  delay: number
  answered: number
  dropped: number
}

const mostUnderWay = 2
/** Milliseconds that a frame takes to be encoded, sent and decoded, about. */
const headStart = 60
/** Long side of what is sent: the networks look at 320 to 600 pixels of the short one. */
const sentSide = 800
const nothing: Figures = { perSecond: 0, delay: 0, answered: 0, dropped: 0 }

const camera = signal<MediaStream | null>(null)
const trouble = signal<Error | null>(null)
const cameras = signal<MediaDeviceInfo[]>([])
const chosen = signal('')

async function open() {
  trouble.value = null
  if (!navigator.mediaDevices) {
    trouble.value = new Error('Browsers give pages a camera only over HTTPS or on localhost.')
    return
  }
  try {
    const which = chosen.value ? { deviceId: { exact: chosen.value } } : { facingMode: 'environment' }
    camera.value = await navigator.mediaDevices.getUserMedia({ video: { ...which, width: { ideal: 1280 } }, audio: false })
    cameras.value = (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === 'videoinput')
  } catch (err) {
    const name = (err as DOMException).name
    trouble.value =
      name === 'NotAllowedError' ? new Error('The camera was not allowed. The browser’s address bar has the switch.')
      : name === 'NotFoundError' ? new Error('There is no camera.')
      : (err as Error)
  }
}

function close() {
  for (const track of camera.value?.getTracks() ?? []) track.stop()
  camera.value = null
}

/** The key cannot be a header of a WebSocket; it goes as a subprotocol, which stays out of addresses and logs. */
function protocols(): string[] {
  const key = accessKey.value
  if (!key) return ['resdet']
  const bytes = String.fromCharCode(...new TextEncoder().encode(key))
  return ['resdet', `resdet.key.${btoa(bytes).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')}`]
}

export function Live() {
  const stream = camera.value
  const answer = useSignal<LiveAnswer | null>(null)
  const figures = useSignal<Figures>(nothing)
  const tick = useSignal(0)
  const ready = useSignal(false)
  const view = useSignal(whole)
  const active = useSignal<number | null>(null)
  const video = useMemo(() => {
    const v = document.createElement('video')
    v.muted = true
    v.playsInline = true
    return v
  }, [])

  useEffect(() => close, []) // leaving the view turns the camera off

  useEffect(() => {
    if (!stream) return
    video.srcObject = stream
    void video.play().catch(() => {}) // a closed camera ends the promise too
    let handle = 0
    const frame = () => {
      ready.value = video.videoWidth > 0
      tick.value++
      handle = video.requestVideoFrameCallback(frame)
    }
    handle = video.requestVideoFrameCallback(frame)
    return () => {
      video.cancelVideoFrameCallback(handle)
      video.srcObject = null
      ready.value = false
    }
  }, [stream])

  const name = model.value
  useEffect(() => {
    if (!stream || !name) return
    const link = new Link(video, name)
    link.onAnswer = (a, f) => {
      answer.value = a
      figures.value = f
    }
    link.onTrouble = (err) => (trouble.value = err)
    link.start()
    return () => {
      link.stop()
      answer.value = null
      figures.value = nothing
    }
  }, [stream, name])

  const all = answer.value?.detections ?? []
  const shown = useMemo(() => shownOf(all), [all, leastScore.value, hiddenClasses.value])
  const size = { width: video.videoWidth, height: video.videoHeight }
  // Answers are in pixels of what was sent, which is smaller than the camera's picture.
  const grow = answer.value && size.width ? size.width / answer.value.width : 1
  const marks = useMemo(
    () => marksOf(shown).map((m) => ({ ...m, box: m.box.map((v) => v * grow) as typeof m.box })),
    [shown, grow],
  )
  const f = figures.value
  return (
    <div class="work">
      <h1 class="sr">Live</h1>
      <section class="work-stage" aria-label="Camera">
        <Stage
          source={ready.value ? video : null} size={size} marks={marks} view={view} active={active} tick={tick.value}
          description={stream ? describe('camera', shown) : 'The camera is off'}
        >
          {!stream && (
            <div class="stage-cover">
              <div class="invite">
                <div class="invite-mark"><Icon name="live" /></div>
                <h2>See what the camera shows</h2>
                <p>Frames go to this server and are not kept.</p>
                <div class="invite-actions"><Button kind="main" icon="play" onClick={open}>Start the camera</Button></div>
                {trouble.value && <p class="failure-text" role="alert">{trouble.value.message}</p>}
              </div>
            </div>
          )}
          {stream && trouble.value && <div class="stage-note" role="alert">{trouble.value.message}</div>}
        </Stage>
        {stream && (
          <dl class="gauges">
            <div><dt>rate</dt><dd id="live-fps">{f.perSecond.toFixed(1)}<small> /s</small></dd></div>
            <div><dt>delay</dt><dd id="live-delay">{f.delay.toFixed(0)}<small> ms</small></dd></div>
            <div><dt>answered</dt><dd id="live-answered">{f.answered}</dd></div>
            <div><dt>skipped</dt><dd>{f.dropped}</dd></div>
          </dl>
        )}
      </section>
      <aside class="panel" aria-label="Settings and result">
        <div class="panel-scroll">
          <DetectModel />
          {cameras.value.length > 1 && (
            <div class="field">
              <label for="camera">Camera</label>
              <select
                id="camera" value={chosen.value}
                onChange={(e) => {
                  chosen.value = e.currentTarget.value
                  close()
                  void open()
                }}
              >
                <option value="">automatic</option>
                {cameras.value.map((c, i) => <option key={c.deviceId} value={c.deviceId}>{c.label || `camera ${i + 1}`}</option>)}
              </select>
            </div>
          )}
          <ScoreSlider scores={all.map((d) => d.score)} />
          <ClassFilter all={all} />
          {stream && <DetectionList shown={shown} total={all.length} active={active} waiting={!answer.value} />}
        </div>
        {stream && (
          <div class="panel-foot">
            <div class="button-row"><Button icon="stop" onClick={close}>Stop the camera</Button></div>
          </div>
        )}
      </aside>
    </div>
  )
}

/** One connection to the server, which it renews when it breaks. */
class Link {
  onAnswer: (a: LiveAnswer, f: Figures) => void = () => {}
  onTrouble: (err: Error | null) => void = () => {}

  private socket: WebSocket | null = null
  private sentAt: number[] = [] // when each frame was taken, in the order of sending
  private underWay = 0
  private answeredAt: number[] = []
  private answered = 0
  private encoding = false
  private stopped = false
  private failures = 0
  private readonly canvas = document.createElement('canvas')

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly model: string,
  ) {}

  start() {
    const address = new URL(`v1/live?${query({ model: this.model, score: scoreFloor })}`, location.href)
    address.protocol = address.protocol.replace('http', 'ws')
    const s = new WebSocket(address, protocols())
    this.socket = s
    this.sentAt = []
    this.underWay = 0
    this.answered = 0
    s.onopen = () => {
      this.failures = 0
      this.onTrouble(null)
      void this.pump()
    }
    s.onmessage = (e) => this.receive(JSON.parse(String(e.data)))
    s.onclose = (e) => {
      if (this.stopped) return
      this.onTrouble(new Error(e.reason || 'The connection to the server broke; trying again.'))
      setTimeout(() => this.stopped || this.start(), Math.min(8000, 500 * 2 ** this.failures++))
    }
  }

  stop() {
    this.stopped = true
    this.socket?.close(1000)
  }

  private receive(a: LiveAnswer) {
    // Frames up to this one are answered, or were passed by for newer ones.
    this.underWay = this.sentAt.length - a.seq
    this.schedule()
    if (a.error) {
      this.onTrouble(new Error(a.error.message))
      return
    }
    const now = performance.now()
    const taken = this.sentAt[a.seq - 1] ?? now
    this.answered++
    // Of the last three seconds; of the last four answers where the server is slower.
    this.answeredAt = this.answeredAt.filter((t, i, all) => now - t < 3000 || i >= all.length - 3)
    this.answeredAt.push(now)
    const span = now - this.answeredAt[0]!
    this.onAnswer(a, {
      perSecond: span > 0 ? ((this.answeredAt.length - 1) * 1000) / span : 0,
      delay: now - taken,
      answered: this.answered,
      dropped: a.dropped,
    })
  }

  /** The next frame leaves so that it is there when the one before it is answered: sooner, it would only wait and be old. */
  private schedule() {
    const [first, last] = [this.answeredAt[0], this.answeredAt.at(-1)]
    const period = first !== undefined && last !== undefined ? (last - first) / Math.max(1, this.answeredAt.length - 1) : 0
    if (this.underWay === 0) void this.pump()
    else setTimeout(() => void this.pump(), Math.max(0, period - headStart))
  }

  private async pump() {
    const s = this.socket
    if (this.encoding || this.stopped || s?.readyState !== WebSocket.OPEN || this.underWay >= mostUnderWay) return
    const { videoWidth: w, videoHeight: h } = this.video
    if (!w) {
      setTimeout(() => void this.pump(), 100)
      return
    }
    this.encoding = true
    const taken = performance.now()
    const scale = Math.min(1, sentSide / Math.max(w, h))
    this.canvas.width = Math.round(w * scale)
    this.canvas.height = Math.round(h * scale)
    this.canvas.getContext('2d')!.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height)
    const blob = await new Promise<Blob | null>((resolve) => this.canvas.toBlob(resolve, 'image/jpeg', 0.8))
    this.encoding = false
    if (!blob || s.readyState !== WebSocket.OPEN) return
    s.send(blob)
    this.sentAt.push(taken)
    this.underWay++
    if (this.underWay < mostUnderWay) this.schedule()
  }
}
