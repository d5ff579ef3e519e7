// Light, dark, or as the system has it.

import { Icon, type IconName } from './icons'
import { spoken, theme, themes, type Theme } from './state'

const look: Record<Theme, { icon: IconName; text: string }> = {
  system: { icon: 'system', text: 'as the system' },
  light: { icon: 'sun', text: 'light' },
  dark: { icon: 'moon', text: 'dark' },
}

export function cycleTheme() {
  theme.value = themes[(themes.indexOf(theme.value) + 1) % themes.length]!
  spoken.value = `Theme: ${look[theme.value].text}`
}

export function ThemeButton() {
  const { icon, text } = look[theme.value]
  return (
    <button type="button" class="tool" aria-label={`Theme: ${text}`} title={`Theme: ${text} (T)`} onClick={cycleTheme}>
      <Icon name={icon} />
    </button>
  )
}
