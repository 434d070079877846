/** Every source type there is: what the configuration may name. */
import { httpSource } from './http.ts'
import { mqttSource } from './mqtt.ts'
import { simulateSource } from './simulate.ts'

export const sourceTypes = [mqttSource, httpSource, simulateSource] as const
