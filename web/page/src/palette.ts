// Colours of classes. The eight hues are those of Okabe and Ito, without black
// and with a violet: told apart under all common colour-vision deficiencies.
// Colour is never alone: every box and row carries its class as text.

const hues = ['#e69f00', '#56b4e9', '#00b386', '#d55e00', '#cc79a7', '#f0e442', '#3f8fd2', '#a98be0']

const given = new Map<string, string>()

/** The colour of a class: hues go out in the order in which classes are first seen, so that few classes never share one. */
export function colourOf(name: string): string {
  let c = given.get(name)
  if (!c) {
    c = hues[given.size % hues.length]!
    given.set(name, c)
  }
  return c
}

/** Colours of the sides of a comparison, and of a pair that both have. */
export const sideColours = { a: '#f08a24', b: '#4aa3ff', both: '#e8eef2' }

/** Black or white, whichever contrasts more with a #rrggbb colour (WCAG's relative luminance). */
export function inkOn(colour: string): string {
  const channel = (at: number) => {
    const v = parseInt(colour.slice(at, at + 2), 16) / 255
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  }
  const light = 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
  return (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? '#101214' : '#ffffff'
}
