SELECT m.checkpoint, s.made_us FROM store.meta AS m, store.snapshot AS s
