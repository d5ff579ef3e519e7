// One model on the picture: boxes, list, slider, filter, files to take away.

import { useSignal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { Button, DetectModel, Failure, ScoreSlider, Timing } from './controls'
import { ClassFilter, describe, DetectionList, marksOf, shownOf } from './detections'
import { Filmstrip, Invite } from './invite'
import { current, pictures, retry, waitingNote } from './pictures'
import { saveJSON, savePicture, stem } from './save'
import { onCommand } from './shortcuts'
import { Stage } from './stage'
import { hiddenClasses, leastScore, model } from './state'
import { whole } from './view'

export function Detect() {
  const picture = current()
  const answer = picture?.detected.value.get(model.value)
  const all = answer?.state === 'done' ? answer.value.detections : []
  const shown = useMemo(() => shownOf(all), [all, leastScore.value, hiddenClasses.value])
  const marks = useMemo(() => marksOf(shown), [shown])
  const view = useSignal(whole)
  const active = useSignal<number | null>(null)
  useEffect(() => {
    view.value = whole
    active.value = null
  }, [picture?.id])

  const value = answer?.state === 'done' ? answer.value : null
  const keepJSON = () => picture && value && saveJSON({ ...value, detections: shown.map((s) => s.detection) }, `${stem(picture.name)}.json`)
  const keepPicture = () => picture && value && savePicture(picture, marks, `${stem(picture.name)}-detected.jpg`)
  useEffect(() => onCommand({ saveJSON: keepJSON, savePicture: keepPicture }))

  if (!picture) {
    return (
      <div class="work work-empty">
        <h1 class="sr">Detect</h1>
        <Invite />
      </div>
    )
  }
  const waiting = waitingNote(answer)
  const source = picture.source.value
  const size = source ? picture : { width: value?.width ?? 0, height: value?.height ?? 0 }
  return (
    <div class="work">
      <h1 class="sr">Detect</h1>
      <section class="work-stage" aria-label="Picture">
        <Stage source={source} size={size} marks={marks} view={view} active={active} description={waiting ? `${picture.name}: looking` : describe(picture.name, shown)}>
          {waiting && <div class="stage-note" role="status"><span class="spinner" />{waiting}</div>}
          {answer?.state === 'failed' && <div class="stage-cover"><Failure error={answer.error} onRetry={() => retry(picture)} /></div>}
          {!picture.readable.value && answer?.state !== 'failed' && <div class="stage-note">This browser cannot show the file.</div>}
        </Stage>
        {picture.credit && <p class="credit">{picture.credit}</p>}
        {pictures.value.length > 0 && <Filmstrip />}
      </section>
      <aside class="panel" aria-label="Settings and result">
        <div class="panel-scroll">
          <DetectModel />
          <ScoreSlider scores={all.map((d) => d.score)} />
          <ClassFilter all={all} />
          {answer?.state !== 'failed' && <DetectionList shown={shown} total={all.length} active={active} waiting={waiting !== ''} />}
        </div>
        <div class="panel-foot">
          {value && <Timing ms={value.ms} />}
          <div class="button-row">
            <Button icon="save" disabled={!value} title="Save JSON (S)" onClick={() => keepJSON()}>JSON</Button>
            <Button icon="save" disabled={!value || !source} title="Save picture (P)" onClick={() => keepPicture()}>Picture</Button>
          </div>
        </div>
      </aside>
    </div>
  )
}
