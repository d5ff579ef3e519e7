// The page of resdet serve.
//
//   files, camera ─▶ pictures ─▶ api ─▶ server
//                       │                 │
//                       ▼                 ▼
//            views: detect compare live jobs   (boxes on a canvas, lists)
//   reports of eval and compare ─▶ gain
//
// State is in signals (state.ts, pictures.ts); views read them and are drawn
// again when they change.

import { render } from 'preact'
import { App } from './app'
import './style.css'

render(<App />, document.getElementById('app')!)
