// Jobs: archives and videos that the server works through. Running jobs tell
// of themselves by events; the list is asked for again now and then, for those
// that other people started.

import { signal, useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { call, events, isAbort, jpegs, pause, query, ServerError, type Job } from './api'
import { Button, DetectModel, FileButton } from './controls'
import { Icon } from './icons'
import { saveFrom, stem } from './save'
import { loadModels, model, models, notify, spoken } from './state'
import { TrainForm, TrainingBody } from './train'

export const jobTypes = '.zip,.tar,.tgz,.tar.gz,.mjpeg,.mjpg,.y4m,.mp4,.avi,.mov,.mkv,video/*,application/zip'

const jobs = signal<Job[]>([])
/** Why the server takes no jobs, if it takes none. */
const unable = signal<Error | null>(null)
/** Whether the server trains. */
const trains = signal(false)
const annotate = signal(false)
const track = signal(false)
const every = signal(1)
const uploads = signal<{ id: number; name: string; abort: AbortController }[]>([])
let nextUpload = 0

const isOver = (j: Job) => j.state !== 'queued' && j.state !== 'running'

function put(job: Job) {
  const had = jobs.value.some((j) => j.id === job.id)
  jobs.value = had ? jobs.value.map((j) => (j.id === job.id ? job : j)) : [job, ...jobs.value]
}

async function refresh(signal?: AbortSignal) {
  const r = await call('v1/jobs', { signal })
  const answer: { jobs: Job[]; trains?: boolean } = await r.json()
  trains.value = answer.trains ?? false
  const curvesOf = (id: string) => jobs.value.find((j) => j.id === id)?.training
  jobs.value = answer.jobs
    .map((j) => (j.training ? { ...j, training: { ...curvesOf(j.id), ...j.training } } : j))
    .sort((a, b) => b.created.localeCompare(a.created))
  // A model that came of a training, also of somebody else's, is there to be chosen.
  const made = jobs.value.filter((j) => j.training && j.state === 'done').map((j) => j.training!.model)
  if (models.value.length > 0 && made.some((name) => !models.value.some((m) => m.name === name))) await loadModels()
}

/** A job with what lists leave out. */
async function complete(job: Job) {
  try {
    put(await (await call(job.links.self)).json())
  } catch (err) {
    notify(err, job.name)
  }
}

export function addJobs(files: Iterable<File>) {
  return submit(files, { model: model.value, annotate: String(annotate.value), track: String(track.value), every: every.value })
}

async function submit(files: Iterable<File>, wanted: Record<string, string | number>) {
  for (const file of files) {
    const upload = { id: nextUpload++, name: file.name, abort: new AbortController() }
    uploads.value = [...uploads.value, upload]
    try {
      const form = new FormData()
      form.append('file', file, file.name)
      const r = await call(`v1/jobs?${query(wanted)}`, { method: 'POST', body: form, signal: upload.abort.signal })
      put(await r.json())
      spoken.value = `${file.name} was accepted`
    } catch (err) {
      if (!isAbort(err)) notify(err, file.name)
    }
    uploads.value = uploads.value.filter((u) => u !== upload)
  }
}

async function remove(job: Job) {
  try {
    await call(`v1/jobs/${encodeURIComponent(job.id)}`, { method: 'DELETE' })
    await refresh()
    if (job.training && job.state === 'done') await loadModels() // which lack its own now
  } catch (err) {
    notify(err, job.name)
  }
}

/** Follows a job until it ends; a broken connection is renewed. */
async function follow(id: string, path: string, signal: AbortSignal) {
  while (!signal.aborted) {
    try {
      for await (const e of events(path, signal)) {
        if (e.event === 'progress' || e.event === 'end') {
          const job = JSON.parse(e.data) as Partial<Job>
          if (job.id) put(job as Job)
        }
        if (e.event === 'end') {
          await refresh(signal)
          const job = jobs.value.find((j) => j.id === id)
          if (job) spoken.value = `${job.name}: ${job.state}`
          return
        }
      }
    } catch (err) {
      if (isAbort(err)) return
    }
    await pause(2000, signal).catch(() => {})
  }
}

/** Browsers open six connections to a server; the page takes two for events. */
const mostFollowed = 2

export function Jobs() {
  const followed = useRef(new Map<string, AbortController>())
  useEffect(() => {
    const over = new AbortController()
    const loop = async () => {
      for (let patience = 3000; !over.signal.aborted; ) {
        try {
          await refresh(over.signal)
          patience = 3000
        } catch (err) {
          if (isAbort(err)) return
          if (err instanceof ServerError && (err.status === 501 || err.status === 404)) {
            unable.value = err
            return
          }
          if (patience === 3000) notify(err, 'Jobs')
          patience = Math.min(60_000, 2 * patience)
        }
        await pause(patience, over.signal).catch(() => {})
      }
    }
    void loop()
    return () => {
      over.abort()
      for (const f of followed.current.values()) f.abort()
      followed.current.clear()
    }
  }, [])
  useEffect(() => {
    for (const j of jobs.value) {
      if (j.state !== 'running' || !j.links.events || followed.current.has(j.id) || followed.current.size >= mostFollowed) continue
      const abort = new AbortController()
      followed.current.set(j.id, abort)
      void follow(j.id, j.links.events, abort.signal).finally(() => followed.current.delete(j.id))
    }
  }, [jobs.value])

  return (
    <div class="page">
      <div class="page-head">
        <div>
          <h1>Jobs</h1>
          <p class="lede">Videos and archives of pictures, worked through in the background. They survive this page.</p>
        </div>
        <FileButton id="choose-job" icon="file" kind="main" accept={jobTypes} multiple onFiles={addJobs}>New job</FileButton>
      </div>
      {unable.value && <p class="note" role="status">{unable.value.message}</p>}
      <fieldset class="card options">
        <legend class="sr">Of new jobs</legend>
        <DetectModel />
        <div class="field">
          <label for="every">Of a video, look at</label>
          <select id="every" value={every.value} onChange={(e) => (every.value = Number(e.currentTarget.value))}>
            {[1, 2, 3, 5, 10, 25].map((n) => <option key={n} value={n}>{n === 1 ? 'every frame' : `every ${n}${n === 2 ? 'nd' : n === 3 ? 'rd' : 'th'} frame`}</option>)}
          </select>
        </div>
        <div class="checks">
          <label class="check"><input id="annotate" type="checkbox" checked={annotate.value} onChange={(e) => (annotate.value = e.currentTarget.checked)} /> <span>Draw the boxes into a copy <span class="hint">(of videos: with OpenCV)</span></span></label>
          <label class="check"><input id="track" type="checkbox" checked={track.value} onChange={(e) => (track.value = e.currentTarget.checked)} /> Follow objects through a video</label>
        </div>
      </fieldset>
      {trains.value && <TrainForm onSubmit={(file, wanted) => void submit([file], wanted)} />}
      {uploads.value.map((u) => (
        <div key={u.id} class="card job" role="status">
          <div class="job-head"><span class="spinner" /> <b>{u.name}</b> <span class="hint">on its way to the server</span></div>
          <div class="button-row"><Button icon="close" onClick={() => u.abort.abort()}>Cancel</Button></div>
        </div>
      ))}
      {jobs.value.length === 0 && uploads.value.length === 0 && (
        <div class="card invite flat">
          <div class="invite-mark"><Icon name="jobs" /></div>
          <h2>Drop a video or an archive here</h2>
          <p>zip and tar of JPEG and PNG pictures, MJPEG, Y4M; and mp4 where the server has OpenCV.</p>
        </div>
      )}
      <ul class="joblist" aria-label="Jobs">
        {jobs.value.map((j) => <li key={j.id}><JobCard job={j} /></li>)}
      </ul>
    </div>
  )
}

const phases = { unpacking: 'unpacking the data set', checking: 'checking photos and boxes', training: '' }

const stateText: Record<string, string> = { queued: 'waiting', running: 'running', done: 'done', failed: 'failed', cancelled: 'cancelled' }

function JobCard({ job: j }: { job: Job }) {
  const watching = useSignal(false)
  const { done, total, fraction, eta_s, failed } = j.progress
  const known = total > 0
  const keep = (path: string, name: string) => saveFrom(path, name).catch((err) => notify(err, j.name))
  useEffect(() => {
    if (isOver(j)) watching.value = false
    if (j.training && !j.training.losses && (j.state === 'done' || j.state === 'running')) void complete(j)
  }, [j.state])
  return (
    <article class="card job" aria-label={`Job ${j.name}`}>
      <div class="job-head">
        <span class={`state state-${j.state}`}>{stateText[j.state] ?? j.state}</span>
        <b class="job-name">{j.name}</b>
        <span class="hint">{[j.kind, j.training ? `${j.model} → ${j.training.model}` : j.model, ago(j.created)].filter(Boolean).join(' · ')}</span>
      </div>
      {j.state === 'running' && (
        <>
          <progress max={1} value={known ? fraction : undefined} aria-label={`Progress of ${j.name}`} />
          <p class="hint">{j.training && j.training.phase !== 'training' ? phases[j.training.phase ?? 'unpacking'] : known ? `${done} of ${total}${j.training ? ' steps' : ''}` : j.training ? 'measuring the first steps' : `${done} so far`}{eta_s != null && eta_s >= 0 ? `, about ${span(eta_s)} left` : ''}</p>
        </>
      )}
      {j.state === 'done' && <p class="hint">{done} {j.training ? 'steps' : done === 1 ? 'picture' : 'pictures'}{j.started && j.finished ? ` in ${span((Date.parse(j.finished) - Date.parse(j.started)) / 1000)}` : ''}{failed ? `; ${failed} could not be read` : ''}</p>}
      {j.error && <p class="failure-text">{j.error.message}</p>}
      {j.training && <TrainingBody job={j} />}
      {watching.value && j.links.stream && <Watch path={j.links.stream} name={j.name} />}
      <div class="button-row">
        {j.state === 'running' && j.links.stream && (
          <Button icon={watching.value ? 'stop' : 'play'} onClick={() => (watching.value = !watching.value)}>{watching.value ? 'Hide' : 'Watch'}</Button>
        )}
        {j.state === 'done' && j.links.results && <Button icon="save" onClick={() => void keep(j.links.results!, `${stem(j.name)}.jsonl`)}>{j.training ? 'Log' : 'Results'}</Button>}
        {j.state === 'done' && j.links.annotated && <Button icon="save" onClick={() => void keep(j.links.annotated!, `${stem(j.name)}-annotated`)}>Annotated</Button>}
        <Button icon="close" kind="quiet" onClick={() => void remove(j)}>{!isOver(j) ? 'Cancel' : j.training && j.state === 'done' ? 'Remove with its model' : 'Remove'}</Button>
      </div>
    </article>
  )
}

/** The running video, boxes drawn by the server: MJPEG read from fetch, so that the key is a header. */
function Watch(p: { path: string; name: string }) {
  const canvas = useRef<HTMLCanvasElement>(null)
  useEffect(() => {
    const over = new AbortController()
    const show = async () => {
      try {
        for await (const jpeg of jpegs(p.path, over.signal)) {
          const frame = await createImageBitmap(jpeg)
          const c = canvas.current
          if (c) {
            if (c.width !== frame.width) c.width = frame.width
            if (c.height !== frame.height) c.height = frame.height
            c.getContext('2d')!.drawImage(frame, 0, 0)
          }
          frame.close()
        }
      } catch (err) {
        if (!isAbort(err)) notify(err, p.name)
      }
    }
    void show()
    return () => over.abort()
  }, [p.path])
  return <canvas ref={canvas} class="watch" role="img" aria-label={`${p.name} as it is worked through`} />
}

function span(seconds: number): string {
  const s = Math.round(seconds)
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`
  return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`
}

function ago(time: string): string {
  const s = (Date.now() - Date.parse(time)) / 1000
  if (!(s >= 0)) return ''
  if (s < 60) return 'just now'
  if (s < 3600) return `${Math.floor(s / 60)} min ago`
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`
  return new Date(time).toLocaleDateString()
}

