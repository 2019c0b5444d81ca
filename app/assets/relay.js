// The upper layer (front) loads the new picture; the lower one (back) shows the last complete
// one until all visible tiles of the new picture are there, and then follows.
const source = front.tile_source
back._front = front
clearInterval(front._relay)
front._relay = setInterval(() => {
  const tiles = [...source.tiles.values()]
  if (tiles.length > 0 && tiles.every((tile) => tile.loaded || tile.finished)) {
    clearInterval(front._relay)
    back.tags = tiles.some((tile) => tile.loaded) ? front.tags : [0, 0, 0, 0]  // else nothing is asked for again
    back.tile_source.url = source.url
  }
}, 40)
