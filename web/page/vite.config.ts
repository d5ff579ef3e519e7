import { defineConfig } from 'vite'

// Files under assets/ are named by their content, so that browsers may keep
// them for good. Nothing is inlined: the page's policy forbids it.
export default defineConfig({
  base: './',
  build: {
    target: 'es2022',
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
})
