/**
 * A believable plant: units of a pump, a tank, a valve and a meter whose readings belong together. Pure: the same
 * seed gives the same points.
 *
 * Invariants: readings have the decimals a sensor has (whole numbers divided by a power of ten, rounded once);
 * counters never fall; a reading that is no number is never called good; points come tick by tick, series in order.
 */
import { because, type Kind, kinds, type PointBatch, quality, type SeriesTable } from '../model.ts'

interface Signal {
  readonly name: string
  readonly kind: Kind
  readonly unit: string
}
const float = (name: string, unit: string): Signal => ({ name, kind: kinds.float, unit })
/** In the order in which they are computed: the pump first, it moves all others. */
const signals: readonly Signal[] = [
  { name: 'pump.running', kind: kinds.bool, unit: '' },
  float('pump.speed', 'rpm'),
  float('pump.current', 'A'),
  float('pump.vibration', 'mm/s'),
  float('flow.rate', 'm3/h'),
  float('tank.level', '%'),
  float('tank.temperature', 'Cel'),
  float('tank.pressure', 'bar'),
  float('valve.position', '%'),
  { name: 'valve.state', kind: kinds.string, unit: '' },
  { name: 'flow.total', kind: kinds.int, unit: 'L' },
  float('energy.total', 'kWh'),
  { name: 'pump.starts', kind: kinds.int, unit: '' },
  { name: 'alarm.active', kind: kinds.bool, unit: '' },
  { name: 'alarm.text', kind: kinds.string, unit: '' },
  { name: 'mode', kind: kinds.string, unit: '' },
]
const texts = ['closed', 'open', 'moving', '', 'level high', 'level low', 'auto', 'manual'] as const
const text = {
  closed: 0,
  open: 1,
  moving: 2,
  none: 3,
  high: 4,
  low: 5,
  auto: 6,
  manual: 7,
} as const

export interface PlantParts {
  readonly series: SeriesTable
  readonly seriesCount: number
  readonly seed: number
  /** Between two readings of one series. */
  readonly periodUs: number
}
export interface Plant {
  /** The next `count` points. NaN as the time of the plant asks for times of arrival. */
  readonly next: (count: number) => PointBatch
  /** Time of the next tick. */
  readonly timeUs: () => number
  readonly setTimeUs: (timeUs: number) => void
}

/** Where a unit stands, in whole numbers: what a sensor's converter would give. */
interface Unit {
  running: number
  starts: number
  speedDeci: number
  flowCenti: number
  levelCenti: number
  temperatureDeci: number
  valveDeci: number
  litres: number
  wattHours: number
  manual: number
  /** Ticks for which the temperature sensor stays broken, or is only estimated. */
  brokenTicks: number
  estimatedTicks: number
}

const newUnit = (no: number): Unit => ({
  ...{ running: no % 3 === 0 ? 0 : 1, starts: no % 17, speedDeci: 0, flowCenti: 0 },
  ...{ levelCenti: 3000 + ((no * 977) % 4000), temperatureDeci: 180 + (no % 90), valveDeci: 500 },
  ...{ litres: 1_000_000 + no * 1_234, wattHours: 5_000_000 + no * 4_321 },
  ...{ manual: 0, brokenTicks: 0, estimatedTicks: 0 },
})

export const createPlant = ({ series, seriesCount, seed, periodUs }: PlantParts): Plant => {
  const refs = new Uint32Array(seriesCount)
  const width = signals.length
  const units = Array.from({ length: Math.ceil(seriesCount / width) }, (_, no) => newUnit(no))
  for (let at = 0; at < seriesCount; at++) {
    const { name, unit } = signals[at % width] as Signal
    const no = Math.floor(at / width) + 1
    const tags = [
      ['line', `L${Math.ceil(no / 8)}`],
      ['unit', `U${String(no).padStart(3, '0')}`],
    ] as const
    refs[at] = series.ref(name, tags, unit)
  }
  let timeUs = 0
  let at = 0
  // Never zero, which would stay zero.
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1
  const draw = (): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
  return {
    timeUs: () => timeUs,
    setTimeUs: (to) => {
      timeUs = to
    },
    next: (count) => {
      const batch = emptyColumns(count)
      const floats = new Float64Array(batch.bits.buffer)
      const words = new Uint32Array(batch.bits.buffer)
      for (let i = 0; i < count; i++) {
        const signal = at % width
        const unit = units[(at - signal) / width] as Unit
        if (signal === 0) step(unit, draw())
        batch.series[i] = refs[at] as number
        batch.timeUs[i] = timeUs
        batch.kinds[i] = kindOf[signal] as number
        const value = read(unit, signal, draw())
        if (kindOf[signal] === kinds.float) floats[i] = value
        else {
          words[2 * i] = value
          words[2 * i + 1] = Math.floor(value / 4_294_967_296)
        }
        if (signal === temperature) batch.qualities[i] = temperatureQuality(unit)
        at++
        if (at === seriesCount) {
          at = 0
          timeUs += periodUs
        }
      }
      return batch
    },
  }
}
const kindOf = Uint8Array.from(signals, ({ kind }) => kind)
const temperature = signals.findIndex(({ name }) => name === 'tank.temperature')

const emptyColumns = (count: number): PointBatch => ({
  count,
  series: new Uint32Array(count),
  timeUs: new Float64Array(count),
  kinds: new Uint8Array(count),
  qualities: new Uint8Array(count),
  bits: new BigUint64Array(count),
  texts,
})

/** One tick of a unit: the pump fills the tank and stops when it is full, the consumers empty it. */
const step = (unit: Unit, chance: number): void => {
  const noise = (chance & 15) - 7
  if (unit.running === 1 && unit.levelCenti > 9_000) unit.running = 0
  else if (unit.running === 0 && unit.levelCenti < 2_500) {
    unit.running = 1
    unit.starts++
  }
  const wanted = unit.running * (14_500 + (unit.manual === 1 ? -2_000 : 0))
  unit.speedDeci += Math.trunc((wanted - unit.speedDeci) / 4) + (unit.running === 1 ? noise : 0)
  if (unit.running === 0 && unit.speedDeci < 40) unit.speedDeci = 0
  unit.flowCenti = Math.max(0, Math.trunc(unit.speedDeci / 3) + (unit.speedDeci > 0 ? noise : 0))
  unit.levelCenti += unit.flowCenti > 2_000 ? 9 : -6
  unit.valveDeci = Math.min(1_000, Math.max(0, unit.valveDeci + ((chance >>> 8) % 5) - 2))
  // A reading that does not change is the commonest of all.
  if ((chance >>> 12) % 4 === 0) unit.temperatureDeci += unit.temperatureDeci > 350 ? -1 : 1
  unit.litres += Math.trunc(unit.flowCenti / 360)
  unit.wattHours += unit.running * 3
  if (chance % 20_011 === 0) unit.manual = 1 - unit.manual
  if (unit.brokenTicks > 0) unit.brokenTicks--
  else if (chance % 30_011 === 1) unit.brokenTicks = 5
  if (unit.estimatedTicks > 0) unit.estimatedTicks--
  else if (chance % 10_007 === 2) unit.estimatedTicks = 20
}
const temperatureQuality = (unit: Unit): number => {
  if (unit.brokenTicks > 0) return quality.bad | because.notANumber
  return unit.estimatedTicks > 0 ? quality.uncertain | because.sensorFailure : quality.good
}

/** The reading of signal `signal`, by its place in `signals`: a float, an int, 0 or 1, or the number of a text. */
const read = (unit: Unit, signal: number, chance: number): number => {
  switch (signal) {
    case 0:
      return unit.running
    case 1:
      return unit.speedDeci / 10
    case 2:
      return (Math.trunc(unit.speedDeci / 12) + (chance & 7)) / 100
    case 3:
      return (Math.trunc(unit.speedDeci / 6) + (chance & 63)) / 1000
    case 4:
      return unit.flowCenti / 100
    case 5:
      return unit.levelCenti / 100
    case 6:
      return unit.brokenTicks > 0 ? Number.NaN : unit.temperatureDeci / 10
    case 7:
      return (1_013 + Math.trunc(unit.levelCenti / 10) + (chance & 3)) / 1000
    case 8:
      return unit.valveDeci / 10
    case 9:
      return unit.valveDeci < 20 ? text.closed : unit.valveDeci > 480 ? text.open : text.moving
    case 10:
      return unit.litres
    case 11:
      return unit.wattHours / 1000
    case 12:
      return unit.starts
    case 13:
      return unit.levelCenti > 8_900 || unit.levelCenti < 2_600 ? 1 : 0
    case 14:
      return unit.levelCenti > 8_900 ? text.high : unit.levelCenti < 2_600 ? text.low : text.none
    default:
      return unit.manual === 1 ? text.manual : text.auto
  }
}
