// The upper layer (front) loads the new picture; the lower one (back) shows the last complete
// one until all visible tiles of the new picture are there, and then follows.
const source = front.tile_source
back._front = front
clearInterval(front._relay)
front._relay = setInterval(() => {
  const tiles = [...source.tiles.values()]
  if (tiles.length > 0 && tiles.every((tile) => tile.loaded || tile.finished)) {
    clearInterval(front._relay)
    back.tags = front.tags
    back.tile_source.url = source.url
  }
}, 40)
