/** Every destination type there is: one line each, in the order the documentation lists them. */
import { relayDestination } from './relay.ts'

export const destinationTypes = [relayDestination] as const
