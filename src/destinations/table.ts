/** Every destination type there is: one line each, in the order the documentation lists them. */
import { fileDestination } from './file.ts'
import { influxDestination } from './influx.ts'
import { postgresDestination } from './postgres.ts'
import { prometheusDestination } from './prometheus.ts'
import { relayDestination } from './relay.ts'

export const destinationTypes = [
  relayDestination,
  postgresDestination,
  influxDestination,
  prometheusDestination,
  fileDestination,
] as const
