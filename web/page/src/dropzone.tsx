// Files that are dropped anywhere on the page, or pasted, go where they
// belong: pictures to the view of pictures, reports to the gain, the rest to
// jobs.

import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { addReports } from './gain'
import { addJobs } from './jobs'
import { addPictures } from './pictures'
import { go, view } from './state'

function take(files: File[]) {
  if (files.length === 0) return
  const named = (re: RegExp) => files.filter((f) => re.test(f.name))
  const reports = named(/\.json$/i)
  const jobs = named(/\.(zip|tar|tgz|tar\.gz|mjpe?g|y4m|mp4|avi|mov|mkv)$/i)
  // What is neither is a picture, or the server says why it is none.
  const pictures = files.filter((f) => !reports.includes(f) && !jobs.includes(f))
  if (pictures.length > 0) {
    if (view.value !== 'compare') go('detect')
    addPictures(pictures)
  } else if (reports.length > 0) go('gain')
  else go('jobs')
  void addReports(reports)
  void addJobs(jobs)
}

export function DropZone() {
  const over = useSignal(false)
  useEffect(() => {
    let depth = 0 // enter and leave are told of every element on the way
    const carries = (e: DragEvent) => e.dataTransfer?.types.includes('Files')
    const enter = (e: DragEvent) => {
      if (!carries(e)) return
      depth++
      over.value = true
    }
    const leave = () => {
      depth = Math.max(0, depth - 1)
      if (depth === 0) over.value = false
    }
    const above = (e: DragEvent) => {
      if (carries(e)) e.preventDefault()
    }
    const drop = (e: DragEvent) => {
      depth = 0
      over.value = false
      if (!carries(e)) return
      e.preventDefault()
      take([...e.dataTransfer!.files])
    }
    const paste = (e: ClipboardEvent) => {
      const files = [...(e.clipboardData?.files ?? [])]
      if (files.length === 0) return
      e.preventDefault()
      take(files)
    }
    addEventListener('dragenter', enter)
    addEventListener('dragleave', leave)
    addEventListener('dragover', above)
    addEventListener('drop', drop)
    addEventListener('paste', paste)
    return () => {
      removeEventListener('dragenter', enter)
      removeEventListener('dragleave', leave)
      removeEventListener('dragover', above)
      removeEventListener('drop', drop)
      removeEventListener('paste', paste)
    }
  }, [])
  return over.value ? <div class="drop-cover" aria-hidden="true"><span>Drop it</span></div> : null
}
