// Tile layers whose tags hold [left, bottom, right, top] ask only for tiles that touch these
// bounds, and no layer asks for tiles ahead of need (Bokeh would fetch 40 at each step).
(() => {
  const layer = Bokeh.Models.get("TileRenderer").prototype.default_view.prototype
  const fetch = layer._fetch_tiles
  layer._prefetch_tiles = function () {}
  layer._fetch_tiles = function (tiles) {
    const [left, bottom, right, top] = this.model.tags.length == 4 ? this.model.tags : [-Infinity, -Infinity, Infinity, Infinity]
    this._tiles ??= []
    fetch.call(this, tiles.filter(([,,, [west, south, east, north]]) =>
      west < right && east > left && south < top && north > bottom))
    if (this.has_finished()) { this.notify_finished() }
  }
})()
