// The empty state, and the strip of pictures below the stage.

import { useEffect, useRef } from 'preact/hooks'
import { Button, FileButton } from './controls'
import { Icon } from './icons'
import { addPictures, addSample, currentID, pairOf, pictures, removePicture, type Picture } from './pictures'
import { go, leastScore, model, modelA, modelB, view } from './state'

export const pictureTypes = 'image/jpeg,image/png,.jpg,.jpeg,.png'

export function Invite() {
  return (
    <div class="invite">
      <div class="invite-mark"><Icon name="picture" /></div>
      <h2>Start with a picture</h2>
      <p>Drop or paste it here, choose some, or hold it to the camera.</p>
      <div class="invite-actions">
        <FileButton id="choose" icon="picture" kind="main" accept={pictureTypes} multiple onFiles={addPictures}>Choose pictures</FileButton>
        <Button icon="detect" onClick={addSample}>Try a sample</Button>
        <Button icon="live" onClick={() => go('live')}>Use the camera</Button>
      </div>
      <p class="hint">Pictures go to this server, to nobody else.</p>
    </div>
  )
}

/** How many objects the answer for the view on show has, or how it stands. */
function statusOf(p: Picture): { text: string; failed: boolean } {
  const answer = view.value === 'compare' ? p.compared.value.get(pairOf(modelA.value, modelB.value)) : p.detected.value.get(model.value)
  if (!answer || answer.state === 'waiting') return { text: '…', failed: false }
  if (answer.state === 'failed') return { text: '!', failed: true }
  const count = (list: { score: number }[]) => list.filter((d) => d.score >= leastScore.value).length
  const v = answer.value
  return { text: 'a' in v ? `${count(v.a.detections)} : ${count(v.b.detections)}` : String(count(v.detections)), failed: false }
}

export function Filmstrip() {
  const list = useRef<HTMLUListElement>(null)
  useEffect(() => {
    const strip = list.current
    const el = strip?.querySelector<HTMLElement>('[aria-current="true"]')
    if (strip && el) strip.scrollLeft = el.offsetLeft - strip.clientWidth / 2 + el.clientWidth / 2
  }, [currentID.value])
  return (
    <nav class="filmstrip" aria-label="Pictures">
      <ul ref={list}>
        {pictures.value.map((p) => {
          const status = statusOf(p)
          return (
            <li key={p.id} class="film">
              <button
                type="button" class="film-pick" aria-current={p.id === currentID.value} title={p.name}
                aria-label={`${p.name}${status.failed ? ', refused' : status.text === '…' ? ', waiting' : `, ${status.text} objects`}`}
                onClick={() => (currentID.value = p.id)}
              >
                {p.readable.value ? <img src={p.url} alt="" /> : <Icon name="file" />}
                <span class={status.failed ? 'film-count failed' : 'film-count'}>{status.text}</span>
              </button>
              <button type="button" class="film-drop" aria-label={`Remove ${p.name}`} title="Remove" onClick={() => removePicture(p.id)}>
                <Icon name="close" />
              </button>
            </li>
          )
        })}
        <li class="film-more">
          <FileButton icon="plus" kind="quiet" id="choose-more" accept={pictureTypes} multiple onFiles={addPictures}>Add</FileButton>
        </li>
      </ul>
    </nav>
  )
}
