/**
 * What a Grafana dashboard is made of: pictures in rows, laid out from left to right.
 * Invariant: nothing in it belongs to one Grafana: the data source is a variable.
 */

interface Target {
  readonly refId: string
  readonly expr: string
  readonly legendFormat: string
  readonly instant?: boolean
  readonly format?: 'table'
}
interface Panel {
  readonly id: number
  readonly type: 'row' | 'stat' | 'timeseries' | 'state-timeline' | 'bargauge'
  readonly title: string
  readonly description?: string
  readonly gridPos: {
    readonly x: number
    readonly y: number
    readonly w: number
    readonly h: number
  }
  readonly datasource?: object
  readonly targets?: readonly Target[]
  readonly fieldConfig?: object
  readonly options?: object
}
export interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly templating: { readonly list: readonly { readonly name: string }[] }
  readonly panels: readonly Panel[]
}

type Query = readonly [expr: string, legend?: string]
/** What a panel says; where it stands is reckoned from the order. */
export interface Picture {
  readonly type: Exclude<Panel['type'], 'row'>
  readonly title: string
  readonly about?: string
  readonly width: number
  readonly unit: string
  readonly queries: readonly Query[]
  /** From which value on it is yellow, and red; the larger first where small is bad. */
  readonly limits?: readonly [yellow: number, red: number]
  readonly words?: Readonly<Record<string, readonly [text: string, color: string]>>
}
const datasource = { type: 'prometheus', uid: `\${datasource}` }
const gridColumns = 24

const steps = (limits: Picture['limits']) => {
  if (limits === undefined) return [{ color: 'green', value: null }]
  const [yellow, red] = limits
  return yellow < red
    ? [
        { color: 'green', value: null },
        { color: 'yellow', value: yellow },
        { color: 'red', value: red },
      ]
    : [
        { color: 'red', value: null },
        { color: 'yellow', value: red },
        { color: 'green', value: yellow },
      ]
}
const mappings = (words: Picture['words'] = {}) => {
  const options = Object.entries(words).map(([value, [text, color]], index) => [
    value,
    { text, color, index },
  ])
  return options.length === 0 ? [] : [{ type: 'value', options: Object.fromEntries(options) }]
}
const optionsOf = (type: Picture['type']): object =>
  type === 'timeseries'
    ? { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } }
    : type === 'state-timeline'
      ? { mergeValues: true, showValue: 'never', legend: { displayMode: 'list' } }
      : { reduceOptions: { calcs: ['lastNotNull'], values: false }, colorMode: 'background' }

const panelOf = (picture: Picture, id: number, gridPos: Panel['gridPos']): Panel => ({
  id,
  type: picture.type,
  title: picture.title,
  ...(picture.about === undefined ? {} : { description: picture.about }),
  gridPos,
  datasource,
  targets: picture.queries.map(([expr, legendFormat = '__auto'], at) => ({
    refId: String.fromCharCode(65 + at),
    expr,
    legendFormat,
    datasource,
    ...(picture.type === 'stat' || picture.type === 'bargauge' ? { instant: true } : {}),
  })),
  fieldConfig: {
    defaults: {
      unit: picture.unit,
      mappings: mappings(picture.words),
      thresholds: { mode: 'absolute', steps: steps(picture.limits) },
      ...(picture.type === 'timeseries'
        ? { custom: { fillOpacity: 10, showPoints: 'never' }, color: { mode: 'palette-classic' } }
        : { color: { mode: 'thresholds' } }),
    },
    overrides: [],
  },
  options: optionsOf(picture.type),
})

type Rows = readonly (readonly [title: string, height: number, pictures: readonly Picture[]])[]
/** Left to right, a new line where the width is used up. */
const layOut = (rows: Rows): readonly Panel[] => {
  const panels: Panel[] = []
  let y = 0
  for (const [title, h, pictures] of rows) {
    const row = { x: 0, y: y++, w: gridColumns, h: 1 }
    panels.push({ id: panels.length + 1, type: 'row', title, gridPos: row })
    let x = 0
    for (const picture of pictures) {
      if (x + picture.width > gridColumns) {
        x = 0
        y += h
      }
      panels.push(panelOf(picture, panels.length + 1, { x, y, w: picture.width, h }))
      x += picture.width
    }
    y += h
  }
  return panels
}

export const variable = (name: string, query: string, many: boolean) => ({
  name,
  type: 'query',
  label: name,
  datasource,
  definition: query,
  query: { query, refId: name },
  refresh: 2,
  sort: 1,
  multi: many,
  includeAll: many,
  ...(many ? { allValue: '.*' } : {}),
})
export const dashboard = (
  uid: string,
  title: string,
  variables: readonly object[],
  rows: Rows,
) => ({
  uid,
  title,
  tags: ['holdfast'],
  schemaVersion: 39,
  version: 1,
  editable: true,
  timezone: 'browser',
  refresh: '30s',
  time: { from: 'now-6h', to: 'now' },
  templating: {
    list: [
      { name: 'datasource', type: 'datasource', label: 'data source', query: 'prometheus' },
      ...(variables as { readonly name: string }[]),
    ],
  },
  annotations: { list: [] },
  links: [{ type: 'dashboards', title: 'Holdfast', tags: ['holdfast'], asDropdown: false }],
  panels: layOut(rows),
})

export const verdictWords = {
  0: ['ok', 'green'],
  1: ['degraded', 'yellow'],
  2: ['unhealthy', 'red'],
} as const
export const upWords = { 0: ['away', 'red'], 1: ['there', 'green'] } as const
export const stat = (
  title: string,
  unit: string,
  query: string,
  more: Partial<Picture> = {},
): Picture => ({
  type: 'stat',
  title,
  width: 4,
  unit,
  queries: [[query]],
  ...more,
})
export const graph = (
  title: string,
  unit: string,
  queries: readonly Query[],
  about = '',
): Picture => ({
  type: 'timeseries',
  title,
  width: 8,
  unit,
  queries,
  ...(about === '' ? {} : { about }),
})
export const states = (title: string, query: string, legend: string): Picture => ({
  type: 'state-timeline',
  title,
  width: 8,
  unit: 'short',
  queries: [[query, legend]],
  words: upWords,
})
