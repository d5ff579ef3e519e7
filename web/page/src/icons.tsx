// Line icons of 20 × 20; they accompany words or a label, so they are hidden
// from screen readers.

const paths = {
  detect: 'M3 7V5a2 2 0 0 1 2-2h2M13 3h2a2 2 0 0 1 2 2v2M17 13v2a2 2 0 0 1-2 2h-2M7 17H5a2 2 0 0 1-2-2v-2M10 7.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5',
  compare: 'M10 2.5v15M7.5 5H4a1 1 0 0 0-1 1v8a1 1 0 0 0 1 1h3.5M12.5 5H16a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1h-3.5',
  live: 'M3 6.5A1.5 1.5 0 0 1 4.5 5h7A1.5 1.5 0 0 1 13 6.5v7a1.5 1.5 0 0 1-1.5 1.5h-7A1.5 1.5 0 0 1 3 13.5zM13 9l4-2.5v7L13 11',
  gain: 'M3 3v14h14M6.5 13l3.5-4 2.5 2.5L16.5 6M13 6h3.5v3.5',
  jobs: 'M4 5.5h12M4 10h12M4 14.5h7M15 13v4M13 15l2 2 2-2',
  plus: 'M10 4v12M4 10h12',
  minus: 'M4 10h12',
  tag: 'M3 4.5v5l7.5 7.5 6-6L9 3.5H4a1 1 0 0 0-1 1M6.7 7.2h.01',
  swap: 'M4 7h11M12 4l3 3-3 3M16 13H5M8 10l-3 3 3 3',
  save: 'M10 3v9M6.5 8.5 10 12l3.5-3.5M4 16.5h12',
  close: 'M5 5l10 10M15 5 5 15',
  sun: 'M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7M10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6 16 16M4 16l1.4-1.4M14.6 5.4 16 4',
  moon: 'M16.5 11.8A7 7 0 0 1 8.2 3.5a7 7 0 1 0 8.3 8.3',
  system: 'M3 4.5h14v9H3zM7.5 17h5M10 13.5V17',
  keyboard: 'M2.5 5.5h15v9h-15zM5.5 8.5h.01M8.5 8.5h.01M11.5 8.5h.01M14.5 8.5h.01M6.5 11.5h7',
  picture: 'M3 4.5h14v11H3zM3 13l4-4 3.5 3.5L13 10l4 4M13 7.5h.01',
  retry: 'M16 6v4h-4M15.7 10A6 6 0 1 0 14 14.5',
  play: 'M6.5 4.5v11l9-5.5z',
  stop: 'M5.5 5.5h9v9h-9z',
  file: 'M5 2.5h6.5L15.5 6.5v11H5zM11 2.5V7h4.5',
} as const

export type IconName = keyof typeof paths

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  )
}
