/** What a configuration may name: the tables of sources and destinations. */
import type { DestinationType } from '../destinations/destination.ts'
import { destinationTypes } from '../destinations/table.ts'
import type { SourceType } from '../sources/source.ts'
import { sourceTypes } from '../sources/table.ts'
import type { Catalog } from './schema.ts'

// Each `create` takes the output of its own schema; `load.ts` gives it nothing else, which types
// cannot say of a list.
export const catalog: Catalog = {
  sources: sourceTypes as readonly unknown[] as readonly SourceType[],
  destinations: destinationTypes as readonly unknown[] as readonly DestinationType[],
}
